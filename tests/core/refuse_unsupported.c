/* What is well formed, but not offered (yet), and what is huge, but fine. */
#include "good_call.h"

#include "refusals_suite.h"

void test_not_offered_yet(void **state)
{
    (void)state;
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "fp16 tensors are not offered yet", c.desc.q.dtype = FKDA_F16);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "fp16 tensors are not offered yet", c.desc.out.dtype = FKDA_F16);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "fp16 tensors are not offered yet", c.desc.A_log = FKDA_F16);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "fp16 tensors are not offered yet", c.desc.final_state.dtype = FKDA_F16);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "fp16 tensors are not offered yet", c.desc.checkpoints.dtype = FKDA_F16; c.desc.checkpoint_every = 16);
}

void test_no_backend_takes_it(void **state)
{
    (void)state;
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "K = 257, at most 256", c.desc.K = 257; c.desc.backend = FKDA_BACKEND_REF);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "V = 257, at most 256", c.desc.V = 257; c.desc.backend = FKDA_BACKEND_REF);
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "ref: K = 300", c.desc.K = 300);    /* AUTO: every backend says why */
    DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "CUDA memory", c.desc.memory = FKDA_MEMORY_CUDA; c.desc.backend = FKDA_BACKEND_REF);
    if (strstr(fkda_build_info(), "CUDA off") != NULL) {
        DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "this library was built without CUDA, but the tensors are in CUDA memory",
                     c.desc.memory = FKDA_MEMORY_CUDA; c.desc.K = 300; c.desc.q.dtype = FKDA_F16);    /* whatever else it lacks */
        DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, "this library was built without CUDA, but desc.backend", c.desc.backend = FKDA_BACKEND_CUDA);
    }
    static const fkda_backend named[] = {FKDA_BACKEND_CUDA, FKDA_BACKEND_CPU};
    for (size_t i = 0; i < sizeof named / sizeof *named; ++i) {
        char text[256] = "";
        if (fkda_backend_status(named[i], text, sizeof text) == FKDA_OK) continue;
        assert_true(strlen(text) > 0);    /* why it is off */
        const char *const why = named[i] == FKDA_BACKEND_CUDA ? "" : text;
        DESC_REFUSED(good_dense(), FKDA_ERR_UNSUPPORTED, why, c.desc.backend = named[i]);
    }
}

/* A packed call without tokens and states, so that nothing but N and HV bounds its size. */
static good_call huge_call(fkda_backend backend, int64_t N, int64_t HV)
{
    good_call c = good_packed();
    c.desc.backend = backend;
    c.desc.initial_state.dtype = c.desc.final_state.dtype = FKDA_NONE;
    c.desc.T = 0;
    c.desc.N = N;
    c.desc.H = c.desc.HV = HV;
    return c;
}

/* Plans are pure: a problem too large for any memory is still planned, without overflow, if its extents fit. */
void test_huge_descs_that_are_fine(void **state)
{
    (void)state;
    for (fkda_backend backend = FKDA_BACKEND_CPU; backend <= FKDA_BACKEND_REF; ++backend) {
        const good_call fine = huge_call(backend, INT64_C(1) << 40, INT64_C(1) << 10);
        fkda_plan plan;
        if (fkda_fwd_plan(&fine.desc, &plan) != FKDA_OK) fail_msg("%s: %s", fkda_backend_name(backend), fkda_last_error());
        DESC_REFUSED(huge_call(backend, INT64_C(1) << 41, INT64_C(1) << 10), FKDA_ERR_OVERFLOW, "N*HV*K*V does not fit 63 bits", (void)c);
        DESC_REFUSED(huge_call(backend, INT64_C(1) << 58, INT64_C(1) << 40), FKDA_ERR_OVERFLOW, "N*HV*K*V does not fit 63 bits", (void)c);
    }
}
