// Calls of the public API whose arguments the prefill kernel does not take as they lie: plan, workspace and copies as in the library, the copying
// kernels emulated, and the reference in the place of the prefill kernel (cuda_in_host_memory.c). All bits must be those of the reference on the
// tensors where they lie, and nothing beside them may be touched.
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "harness.h"

#include "bars.h"
#include "case_run.h"
#include "counter_rng.h"

namespace {

constexpr uint32_t kAll = 0xffff;    // of FKDA_ARG_*
int copied = 0, by_address = 0;

bool widen(case_spec *s) {
    if (s->gate != FKDA_GATE_BOUNDED || s->norm != FKDA_QK_NORM_L2) return false;
    s->K = s->V = 128;
    s->q = s->k = s->v = s->g = s->out = FKDA_BF16;
    return s->B * s->T * s->HV < 2000 && s->N * s->HV < 40;
}

// Plans and runs on memory that is exactly as large as the plan says.
fkda_status call(const fkda_fwd_desc &d, const fkda_fwd_args &a, uint8_t poison) {
    fkda_plan plan;
    if (const fkda_status status = fkda_fwd_plan(&d, &plan); status != FKDA_OK) return status;
    const size_t bytes = fkda_plan_workspace_size(&plan);
    guarded workspace = guarded_alloc(bytes, FKDA_WORKSPACE_ALIGN, GUARD_AT_END, poison ^ 0x5a);    // not what outputs hold
    const fkda_status status = fkda_fwd_run(&plan, &a, workspace.data, bytes, nullptr);
    guarded_free(&workspace);
    copied += status == FKDA_OK && fkda_plan_copies(&plan) != 0;
    return status;
}

int64_t element_of(const fkda_fwd_desc &d, int buffer) {
    const fkda_dtype dtype = buffer == IMAGE_BETA ? d.beta.dtype : buffer == IMAGE_INITIAL ? d.initial_state.dtype
                             : buffer == IMAGE_FINAL ? d.final_state.dtype
                             : buffer == IMAGE_CHECKPOINTS ? d.checkpoints.dtype : buffer < IMAGE_TENSORS ? FKDA_BF16 : FKDA_NONE;
    return dtype == FKDA_BF16 ? 2 : dtype == FKDA_F32 ? 4 : 0;
}

// The image, with every tensor an element behind a multiple of 256 bytes. First without a word, which is refused and writes nothing.
fkda_status call_shifted(case_image &m, uint8_t poison) {
    guarded moved[IMAGE_BUFFERS] = {};
    void *data[IMAGE_BUFFERS] = {};
    for (int b = 0; b < IMAGE_WORKSPACE; b++) {
        const guarded &from = m.buffer[b];
        const size_t by = static_cast<size_t>(element_of(m.desc, b));
        if (from.pages == nullptr) continue;
        moved[b] = guarded_alloc(from.bytes + by, 256, GUARD_AT_START, 0x5a);
        if (from.bytes > 0) memcpy(moved[b].data + by, from.data, from.bytes);
        if (!image_is_output(b)) guarded_make_readonly(&moved[b]);
        data[b] = moved[b].data + by;
    }
    const fkda_fwd_args args = image_args(m.spec, data);
    fkda_fwd_desc d = m.desc, takes;
    fkda_status status = call(d, args, poison);
    if (status == FKDA_ERR_MISALIGNED) {
        uint32_t copies = 1;
        by_address++;
        d.unaligned = kAll;
        if (fkda_fwd_advise(&m.desc, &args, &takes, &copies) != FKDA_OK || copies != 0) printf("%s: the caller is to copy 0x%x\n", m.spec->name, copies);
        status = call(by_address % 2 ? d : takes, args, poison);
    }
    for (int b = 0; b < IMAGE_WORKSPACE; b++) {
        const guarded &to = m.buffer[b];
        if (to.pages == nullptr) continue;
        if (image_is_output(b) && to.bytes > 0) memcpy(to.data, data[b], to.bytes);
        for (int64_t i = 0; i < element_of(m.desc, b); i++)
            if (moved[b].data[i] != 0x5a) {
                printf("%s: byte %d before a tensor was written\n", m.spec->name, static_cast<int>(i));
                status = FKDA_ERR_INTERNAL;
            }
        guarded_free(&moved[b]);
    }
    return status;
}

case_result run(const case_spec *s, const input_values *x, fkda_backend backend, guard_side side, bool is_shifted) {
    const run_setup setup = {backend, 1, static_cast<uint8_t>(side == GUARD_AT_END ? 0xff : 0xa5), side};
    case_image m = image_build(s, x, &setup);
    if (backend == FKDA_BACKEND_CUDA) m.desc.memory = FKDA_MEMORY_CUDA;
    const fkda_status status = is_shifted ? call_shifted(m, setup.poison) : call(m.desc, m.args, setup.poison);
    if (status != FKDA_OK) printf("%s: %s\n", s->name, fkda_last_error());
    image_check_untouched(&m);
    const case_result result = image_gather(&m, status);
    image_free(&m);
    return result;
}

bool check(const case_spec *s) {
    input_values x = values_draw(s);
    case_result want = run(s, &x, FKDA_BACKEND_REF, GUARD_AT_START, false);
    bool good = want.status == FKDA_OK;
    for (const bool is_shifted : {false, true}) {
        case_result got = run(s, &x, FKDA_BACKEND_CUDA, GUARD_AT_END, is_shifted);
        good &= got.status == FKDA_OK && result_same_bits(&got, &want);
        result_free(&got);
    }
    if (!good) printf("FAIL %s\n", s->name);
    result_free(&want);
    values_free(&x);
    return good;
}

const char *const more[] = {
    "lens=20,0,14,33,1,7 tail=9 view=mixed rows=odd s0_pool=i32 s1_pool=i64 H=2",
    "lens=5,20,0,14,33,1,16,31,3 s0_pool=i32 s1_pool=i64 H=1 null=not_positive rows=odd view=gaps",
    "lens=20,0,14,33,1,16,7,8,30 s0_pool=i32 s1_pool=i32 place=same H=1 rows=odd view=mixed tail=3 cu=i32",
    "lens=20,7,14,33,0,16,5,5 mask=some s0_pool=i32 s1_pool=i32 place=same H=1 rows=odd",
    "B=3 T=9 H=2 HV=4 view=mixed rows=odd place=same", "B=2 T=33 H=3 view=gaps s0=bf16 s1=bf16 rows=odd s1_layout=nhkv",
    "lens=70,3 H=1 cp=f32 cp_every=7 rows=odd view=gaps", "lens=20,0,3,50,1,49 H=1 cp=bf16 cp_every=7 rows=odd tail=1",
    "B=3 T=40 H=2 cp=f32 cp_every=10 cp_pool=i32 rows=odd view=mixed", "lens=100,0,37,64,5 H=1 cp=f32 cp_every=9 cp_pool=i64 null=not_positive rows=odd",
    "lens=20,0,3,17,64,70,65,1 H=1 cp=bf16 cp_per=3 s1=none rows=odd", "lens=100,33,0,31 H=2 cp=f32 cp_per=10 rows=odd view=heads_first",
    "lens=20,0,70,33,1,64 H=2 cp=f32 cp_per=5 cp_pool=i32 s0_pool=i32 s1_pool=i32 place=same mask=some rows=odd tail=9 view=mixed",
    "lens=0,0,0 tail=40 H=1 view=gaps", "lens=0 H=1 view=gaps", "B=2 T=0 H=1 view=gaps rows=odd",
};

}  // namespace

int main() {
    rng_seed();
    int ran = 0, failed = 0;
    for (int i = 0; i < case_count("fwd"); i++) {
        case_spec s = case_at("fwd", i);
        const bool has_strides = s.view != VIEW_PLAIN || s.row_gap;
        if ((has_strides || i % 10 == 0) && widen(&s)) ran++, failed += !check(&s);
    }
    for (const char *words : more) {
        const case_spec s = kernel_case_parse("copies", words);
        ran++, failed += !check(&s);
    }
    printf("test_copied_calls: ran %d, failed %d; %d with strides, %d with addresses that need a copy\n", ran, failed, copied, by_address);
    return failed > 0 || ran < 60 || copied < 60 || by_address < 60;
}
