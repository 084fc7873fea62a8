#!/usr/bin/env python3
"""Seeded mutants: breaks the library in one place at a time and shows that a test suite notices.

Each mutant is (file, exact old text, new text, suite). The tree is copied to a temporary folder and built there; then, for each
mutant, the text is replaced, the suite rebuilt and run. A mutant that a suite lets pass has survived: exit status 1. An old text that is
not in its file exactly once is an error too, so this list follows the code.

    tests/mutants/run_mutants.py              all; a quarter of an hour on two cores. Not part of `make check`
    tests/mutants/run_mutants.py cpu_task     those whose file name contains the word
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFUSALS, PLAN, SENTENCES, DTYPE, REF = "test_refusals", "test_plan", "test_sentences", "test_dtype", "test_ref"
OPERATION, ADVISE = "test_operation", "test_advise"
ON_CPU, ON_REF = "test_backends cpu", "test_backends ref"
COPY, CALLS = "test_strided_copy", "test_copied_calls"
DECODE = "test_decode_emulated"
MMA, MMA_SIZES, MMA_BROKEN = "test_mma_emulated cases", "test_mma_emulated sizes", "test_mma_emulated broken"
SPANS, SPAN_BITS = "test_spans_emulated cases", "test_spans_emulated bits"
SPAN_CARRY, SPAN_COUNTS = "test_spans_emulated carry", "test_spans_emulated counts"
MMA_LAUNCH = "test_mma_launch"
NEED_NVCC = {MMA_LAUNCH}    # without one their mutants are left out
QUADS, CHECKPOINTS, SCHEDULE = "test_prefill_emulated inputs cuts", "test_prefill_states checkpoints", "test_schedule"
VALUES, LATE, JOBS = "test_prefill_emulated inputs", "test_prefill_emulated laggards", "test_prefill_emulated jobs"
BROKEN = "test_prefill_emulated refusals"
CUTS, LAYOUTS, SOLVE = "test_prefill_emulated cuts", "test_prefill_states layouts", "test_prefill_solve"
TIMEOUT_S = 600

MUTANTS = [
    # strides, extents, sequences
    ("src/core/extent.c", "REQUIRE(stride >= span,", "REQUIRE(stride + 1 >= span,", REFUSALS),
    ("src/core/op_fwd.c", "argument == FKDA_ARG_Q || argument == FKDA_ARG_K ? d->H", "argument == FKDA_ARG_K ? d->H", REFUSALS),
    ("src/core/extent.c", "(shape.T - 1) * t->token_stride + (shape.heads - 1)", "(shape.T - 1) * t->token_stride + 0 * (shape.heads - 1)", REFUSALS),
    ("src/core/dtype.h", ": ((const int64_t *)base)[i];", ": (int32_t)((const int64_t *)base)[i];", REFUSALS),
    ("src/core/sequences.c", "REQUIRE(bound >= before,", "REQUIRE(bound + 1 >= before,", REFUSALS),
    ("src/core/sequences.c", "desc->cu_seqlens, n + 1)};", "desc->cu_seqlens, n + (n < desc->N))};", None),    # equivalent: shows that "survived" is reported
    # pointers, workspace
    ("src/core/validate_args.c", "list->at[w].begin < list->at[i].end && list->at[i].begin < list->at[w].end", "list->at[w].begin == list->at[i].begin", REFUSALS),
    ("src/core/validate_args.c", "w_data == o_data && plan->operation", "plan->operation", REFUSALS),
    ("src/core/op_fwd.c", "i->layout == f->layout &&\n", "\n", REFUSALS),
    ("src/core/op_fwd.c", "written == FKDA_ARG_FINAL_STATE && read == FKDA_ARG_INITIAL_STATE && ", "", REFUSALS),
    ("src/core/validate_args.c", "REQUIRE(bytes >= needed,", "REQUIRE(bytes + 1 >= needed,", REFUSALS),
    ("src/core/op_fwd.c", "if (is_packed && is_readable) TRY(fkdai_check_cu_seqlens(d, a->cu_seqlens, \"\"));", "", REFUSALS),
    # structs that grow, operations, copies
    ("src/core/operation.c", "REQUIRE(((const unsigned char *)given)[i] == 0,", "REQUIRE(1,", REFUSALS),
    ("src/core/operation.c", "common = size < known ? size : known;\n    memcpy(to, given", "common = known;\n    memcpy(to, given", OPERATION),
    ("src/core/operation.c", "common = struct_size < known ? struct_size : known;", "common = known;", OPERATION),
    ("src/core/api.c", "REQUIRE(made.operation == operation,", "REQUIRE(1,", OPERATION),
    ("src/core/plan.c", "REQUIRE(offer->plan != NULL,", "REQUIRE(1,", OPERATION),
    ("src/core/plan.c", "if (choose(&as_it_lies, plan) == FKDA_OK)", "if (0)", OPERATION),
    ("src/core/op_fwd.c", "if (dtype == FKDA_F16) TRY(", "if (0) TRY(", ADVISE),
    ("src/core/op_fwd.c", "else if (address % (uintptr_t)fkdai_dtype_bytes(dtype) != 0)", "else if (0)", ADVISE),
    ("src/core/op_fwd.c", "    state->row_stride = 0;\n", "", ADVISE),
    # slots, masks, checkpoints
    ("src/core/state_rows.c", "s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE ? 1 : 0", "0", REF),
    ("src/core/state_rows.c", "a->initial_mask[n] == 0", "a->initial_mask[n] != 1", REF),
    ("src/core/state_rows.c", "        c->first += c->count;\n", "        c->first += 1;\n", REF),
    ("src/core/state_rows.c", "return passed < c->count ?", "return passed + 1 < c->count ?", ON_CPU),
    ("src/core/state_rows.c", "position > after && position < next", "position > after", ON_CPU),
    ("src/core/check_states.c", "s->slot_count == 0 || row < s->slot_count", "s->slot_count == 0 || row <= s->slot_count", REFUSALS),
    ("src/core/slot_uses.c", "written != NULL && written->i != u->i ? written : ", "", REFUSALS),
    ("src/core/slot_uses.c", "first->i != u->i ? first : NULL", "0 ? first : NULL", REFUSALS),
    ("src/core/check_states.c", "if (is_in_place && initial", "if (initial", REFUSALS),
    ("src/core/slot_uses.c", "    for (int64_t root = count / 2; root-- > 0;) sift(uses, root, count);\n", "", REFUSALS),
    ("src/core/check_states.c", "position <= length,", "position < length,", REFUSALS),
    ("src/core/check_states.c", "c->first + j < c->desc->checkpoint_count", "c->first + j <= c->desc->checkpoint_count", REFUSALS),
    ("src/core/check_states.c", "            if (position <= 0) continue;\n", "", REFUSALS),
    ("src/core/check_states.c", "? 2 * d->N : 0", "? d->N : 0", REFUSALS),
    ("src/core/op_fwd.c", "rows <= d->checkpoint_count)", "rows <= d->checkpoint_count + 1)", REFUSALS),
    # which states decode reads and writes
    ("src/core/check_decode.c", "accepted >= least && accepted <= most", "accepted >= least", REFUSALS),
    ("src/core/check_decode.c", "parent >= -1 && parent < t", "parent >= -1 && parent <= t", REFUSALS),
    ("src/core/check_decode.c", "TRY(check_slot(d, a, n, t, 1, uses, count))", "TRY(check_slot(d, a, n, t, 0, uses, count))", REFUSALS),
    ("src/core/decode_states.c", "? fkdai_decode_accepted(d, a, n) - 1 : 0", "? 0 : 0", ON_REF),
    ("src/core/decode_states.c", "t == fkdai_decode_accepted(d, a, n) - 1 ?", "t == length - 1 ?", ON_CPU),
    ("src/core/decode_states.c", "n * d->step_states_per_sequence + t", "n * d->S + t", ON_CPU),
    ("src/cpu/cpu_decode.c", "if (t == 0 || h->is_tree) load_part", "if (t == 0) load_part", ON_CPU),
    ("src/cpu/cpu_decode.c", "        store_part(ukr, &p, h->state, &h->step[t]);\n", "", ON_CPU),
    ("src/cuda/decode/decode_kernel.cuh", "if (p.is_bf16_step && p.parent.data != nullptr)", "if (p.step_states == nullptr)", DECODE),
    ("src/cuda/decode/decode_kernel.cuh", "        pass(tokens, states.store_after + 1, job.count);\n", "", DECODE),
    ("src/cuda/decode/decode_kernel.cuh", "            if (states.guessed_wrong()) request_first();\n", "", DECODE),
    ("src/cuda/decode/decode_kernel.cuh", "        if (states.store_after < 0) return;\n", "", DECODE),
    ("src/cuda/decode/decode_kernel.cuh", "!block.check_guess() || !block.has_rows()", "!block.check_guess()", DECODE),
    ("src/cuda/decode/decode_states.cuh", "store_after = accepted_of(p, accepted, 0,", "store_after = accepted_of(p, accepted, 1,", DECODE),
    ("src/cuda/decode/decode_states.cuh", "        if (!has_first) store_after = -1;\n", "", DECODE),
    ("src/cuda/decode/decode_states.cuh", "return is_good ? static_cast<int>(from) : -1;", "return token - 1;", DECODE),
    ("src/cuda/device/state_rows.cuh", "t[r] += t2[r] + with_k", "t[r] = t[r] + t2[r] + with_k", DECODE),
    # tokens taken together
    ("src/cuda/decode/decode_chunk.cuh", "four_at(x.decay[s + 1], lane)", "four_at(x.decay[s], lane)", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "decays = product(decays, four_at(x.decay[0], lane));", "", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "is_of_q && s == t ? x.kq[t] : sum", "sum", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "                    multiply_tf32(t_small, rest, of(k, c), of(k, c + 1));\n", "", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "                multiply_tf32(u_small, main, tf32_rest(of(q, c)), tf32_rest(of(q, c + 1)));\n", "", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "if (pair < lane || (pair == lane && odd == 0)) o[i][0]", "o[i][0]", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "if (pair <= lane) o[i][1]", "o[i][1]", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "if (t + j < count) store_float(", "if (t + j <= count) store_float(", DECODE),
    ("src/cuda/decode/decode_plan.c", "r->S >= FKDAI_DECODE_TOGETHER_NONE", "r->S >= FKDAI_DECODE_TOGETHER_NONE && r->N > 1", DECODE),
    ("src/cuda/decode/decode_plan.c", "r->writes_last && r->S", "r->writes_last && r->N > 1 && r->S", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "if (s > t && s < count) left", "if (s >= t && s < count) left", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "2 * lane + j < count ? b[j] * r[i][j] : 0.f", "b[j] * r[i][j]", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "                multiply_tf32(sums[c], d_rest, k0, k1);\n", "", DECODE),
    ("src/cuda/decode/decode_chunk.cuh", "if (odd == 1 && 2 * pair + 1 == count) break;", "", DECODE),
    ("src/cuda/decode/decode_persistent.cuh", "now = next, next = after;", "now = next;", DECODE),
    ("src/cuda/decode/decode_persistent.cuh", "        await_copies<1>();\n", "", DECODE),
    ("src/cuda/decode/decode_persistent.cuh", ".wait(stage.parity ^ 1);", ".wait(stage.parity);", DECODE),
    ("src/cuda/decode/decode_persistent.cuh", "if (p.null_is_padding && !now.is(Source::kIsRow)) this->clear_out();", "", DECODE),
    # decode_fused
    ("src/ref/ref_fused.c", "(x.part * f->desc->H + x.h) * f->desc->K + x.c", "(x.h * 3 + x.part) * f->desc->K + x.c", REF),
    ("src/ref/ref_fused.c", "i * w->token_stride + x.h", "(TAPS - i) * w->token_stride + x.h", REF),
    ("src/ref/ref_fused.c", "(f->starts_from_0 ? 0 : fkdai_load(", "(0 ? 0 : fkdai_load(", REF),
    ("src/ref/ref_fused.c", "if (i + 1 < TAPS && f->starts_from_0) memset", "if (0) memset", REF),
    ("src/ref/ref_fused.c", "i + 1 < TAPS ? tap_at(f, x, i + 1) : newest", "newest", REF),
    ("src/ref/ref_fused.c", "squares / (double)d->V + (double)d->norm_eps", "squares / (double)d->V", REF),
    ("src/ref/ref_fused.c", "squares / (double)d->V +", "squares +", REF),
    ("src/ref/ref_fused.c", "row[c] = y * fkdai_ref_sigmoid(y);", "row[c] = y;", REF),
    ("src/ref/ref_fused.c", "d->norm_weight, j) *", "d->norm_weight, 0) *", REF),
    ("src/ref/ref_fused.c", "    if (f->row >= 0) {", "    if (1) {", REF),
    ("src/core/op_fwd.c", " && i->slot_null == f->slot_null", "", REFUSALS),
    # plans, sentences, conversions
    ("src/core/api.c", "plan != NULL && made->magic == FKDAI_PLAN_MAGIC", "plan != NULL", PLAN),
    ("src/core/status.c", "static _Thread_local char", "static char", SENTENCES),
    ("src/core/dtype.h", "        bits |= 1u;\n", "", DTYPE),
    ("src/core/dtype.h", "bits + 0x7fffu + (bits >> 16 & 1u)", "bits + 0x8000u", DTYPE),
    # the reference
    ("src/ref/ref_read.c", "t * desc->token_stride + h * desc->head_stride", "t * desc->head_stride + h * desc->token_stride", REF),
    ("src/ref/ref_read.c", "h = hv / (d->HV / d->H)", "h = hv % d->H", ON_CPU),
    ("src/ref/ref_read.c", "#define NORM_EPS 1e-6", "#define NORM_EPS 1e-5", REF),
    ("src/ref/ref_read.c", "token->beta = d->beta_multiplier * ", "token->beta = ", REF),
    ("src/ref/ref_read.c", "    if (log_decay > 0) return 0;\n", "", ON_CPU),
    ("src/ref/ref_tokens.c", "S[c * V + j] *= a;", "S[c * V + j] *= 1 + 0 * a;", REF),
    ("src/ref/ref_chunks.c", "j < i; ++j) x->akk", "j < i - 1; ++j) x->akk", REF),
    ("src/ref/ref_chunks.c", "item->seq.end - t0 < C ? (int)(item->seq.end - t0) : C", "item->seq.end - t0 < C - 1 ? (int)(item->seq.end - t0) : C - 1", REF),
    ("src/ref/ref_backend.c", "s->layout == FKDA_STATE_NHVK ?", "s->layout != FKDA_STATE_NHVK ?", REF),
    ("src/ref/ref_backend.c", "            run_tokens(&item, &checkpoints, S);\n", "            if (item.seq.begin == item.seq.end) continue;\n            run_tokens(&item, &checkpoints, S);\n", ON_REF),
    ("src/ref/ref_backend.c", "done = next < length ? next : length;", "done = next < length ? next + 1 : length;", REF),
    # the CPU backend
    ("src/cpu/cpu_task.c", "for (; next < done + len;", "for (; next < done + len - 1;", ON_CPU),
    ("src/cpu/cpu_task.c", "next == done + len && p", "next == done + len + 1 && p", ON_CPU),
    ("src/cpu/cpu_task.c", "s->v[0] + p * P, s->ended[0], s->update[0]);\n", "s->v[0] + p * P, s->ended[0], s->update[0]);\n        if (len == 15) len = 16;\n", ON_CPU),
    ("src/cpu/cpu_backend.c", "    if (n < last->n) *last = ", "    if (0) *last = ", ON_CPU),
    ("src/cpu/cpu_task.c", "const int len = (int)min(task->seq.end - t0, C);", "const int len = C;", ON_CPU),
    ("src/cpu/cpu_task.c", "    for (int64_t t0 = task->seq.begin; t0", "    if (task->seq.begin == task->seq.end) return;\n    for (int64_t t0 = task->seq.begin; t0", ON_CPU),
    ("src/cpu/cpu_rows.c", "s->group.alpha[i][c] = 1;", "s->group.alpha[i][c] = 0.5f;", ON_CPU),
    ("src/cpu/cpu_state.c", "for (int64_t c = 0; c < K; ++c) task->ukr->store_row(", "for (int64_t c = 0; c < K - 1; ++c) task->ukr->store_row(", ON_CPU),
    ("src/cpu/cpu_state.c", "return row * desc->row_stride", "return row * task->desc->HV * task->desc->K * task->desc->V", ON_CPU),
    ("src/cpu/cpu_rows.c", "return (task->seq.batch * desc->batch_stride + t * desc->token_stride + head * desc->head_stride) *",
     "return (int32_t)(task->seq.batch * desc->batch_stride + t * desc->token_stride + head * desc->head_stride) *", ON_CPU),
    ("src/cpu/cpu_rows.c", "t * desc->token_stride + head * desc->head_stride", "t * desc->head_stride + head * desc->token_stride", ON_CPU),
    ("src/cpu/cpu_rows.c", "return hv / (task->desc->HV / task->desc->H);", "return hv % task->desc->H;", ON_CPU),
    ("src/cpu/cpu_rows.c", "const float multiplier = (float)d->beta_multiplier;", "const float multiplier = 1;", ON_CPU),
    ("src/cpu/cpu_rows.c", "column_bytes = task->first_panel * P * fkdai_dtype_bytes(desc->dtype);\n    for (int i = 0; i < len; ++i)\n        task->ukr->load_row(", "column_bytes = 0 * fkdai_dtype_bytes(desc->dtype);\n    for (int i = 0; i < len; ++i)\n        task->ukr->load_row(", ON_CPU),
    ("src/cpu/cpu_backend.c", "count < d->HV - hv ? count : d->HV - hv;", "count;", ON_CPU),
    ("src/cpu/cpu_backend.c", "is_long == (visit == 0);", "is_long || visit == 0;", ON_CPU),
    ("src/cpu/cpu_threads.c", "first + taken, memory_order_relaxed, memory_order_relaxed)) continue;", "first + 1, memory_order_relaxed, memory_order_relaxed)) continue;", ON_CPU),
    ("src/cpu/cpu_backend.c", "hv = head % d->HV,", "hv = head % d->H,", ON_CPU),

    # copies of strided tensors
    ("src/cuda/strided_copy/strided_copy_kernel.cuh", "rows[j * kWarp * unit / kRow]", "rows[0]", COPY),
    ("src/cuda/strided_copy/strided_copy_kernel.cuh", "begin += warps * turn", "begin += (warps > 0 ? all : 0)", COPY),
    ("src/cuda/strided_copy/strided_copy_kernel.cuh", "    make_marks(p);\n", "", COPY),
    ("src/cuda/strided_copy/strided_walk.cuh", "if (middle >= end) row.what = What::Skip;", "", COPY),
    ("src/cuda/strided_copy/strided_walk.cuh", "at < of.first_slot ||", "at < 0 ||", COPY),
    ("src/cuda/strided_copy/strided_walk.cuh", "What::Zero : What::Skip", "What::Skip : What::Skip", COPY),
    ("src/cuda/strided_copy/strided_walk.cuh", "if (((a | b) >> 32) == 0)", "if (((a & b) >> 32) == 0)", COPY),
    ("src/cuda/strided_copy/strided_copy_grid.c", "bits |= (uint64_t)c->stride[i];", "bits |= 0;", COPY),
    ("src/cuda/backend/cuda_copies.c", "if (argument == FKDA_ARG_CHECKPOINT_STATE) copy.is_marked = 1;", "", CALLS),
    ("src/cuda/backend/cuda_copies.c", "copy.first_slot = s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE;", "copy.first_slot = 0;", CALLS),
    ("src/cuda/backend/cuda_copies.c", "d->N * fkdai_dtype_bytes(d->cu_seqlens)", "(d->N - 1) * fkdai_dtype_bytes(d->cu_seqlens)", CALLS),
    ("src/cuda/backend/cuda_copies.c", "copy->packed + bytes - FKDAI_COPY_ROW, 1, 0}", "copy->packed + 0 * bytes, 1, 0}", CALLS),
    ("src/cuda/backend/cuda_copies.c", "at += room_of(d, copied[i]);", "at += FKDAI_COPY_ROW;", CALLS),

    # the portable prefill kernel
    ("src/cuda/prefill_mma/prefill_mma_kernel.cuh", "scores_ready(s.stage(i)).init(kPrepareWarps);", "scores_ready(s.stage(i)).init(1);", MMA),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "            meet();\n            mark(mark_prepare_has_sums", "            mark(mark_prepare_has_sums", MMA),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "            await_copies<0>();\n            meet();\n            now = next;", "            await_copies<0>();\n            now = next;", MMA),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "        chunk_done(stage).wait(((number >> 1) & 1) ^ 1);\n", "", MMA),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "if (rows > 16) copy_async", "if (rows > 17) copy_async", MMA),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "x.gamma[0][t] = x.gamma[1][t] = 0.f;", ";", MMA_BROKEN),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "if (!is_bounded && has_steep)", "if (!is_bounded && !has_steep)", MMA),
    ("src/cuda/prefill_mma/mma_norms.cuh", "8 * group() + (lane >> 2)] = sum;", "8 * group() + (lane & 7)] = sum;", MMA_SIZES),
    ("src/cuda/prefill_mma/mma_params.cuh", "(is_silent ? 32u : 0u) |", "(is_silent ? 0u : 0u) |", MMA),
    ("src/cuda/prefill_mma/mma_chain.cuh", "if (is_scaled) [[unlikely]] multiply_tiles(state", "if (false) multiply_tiles(state", MMA_SIZES),
    ("src/cuda/prefill_mma/mma_solve.cuh", "        scores_ready(stage).wait(number >> 1 & 1);\n", "", MMA),
    # long sequences in spans
    ("src/cuda/spans/span_carry.cuh", "            multiply_16_bf16(c[1], first, b[2], b[3]);\n", "", SPAN_CARRY),
    ("src/cuda/spans/span_carry.cuh", "            multiply_16_bf16(c[2], second, b[0], b[1]);\n", "", SPAN_CARRY),
    ("src/cuda/spans/span_carry.cuh", "            leave(span, own);\n", "", SPAN_CARRY),
    ("src/cuda/spans/span_carry.cuh", "                __syncthreads();  // all have copied", "                // all have copied", SPAN_CARRY),
    ("src/cuda/spans/span_setup.cuh", "FKDAI_SPAN_STATE - (row - 1)", "FKDAI_SPAN_STATE - row", SPANS),
    ("src/cuda/spans/span_setup.cuh", "FKDAI_SPAN_TRANSITION | FKDAI_SPAN_SILENT", "FKDAI_SPAN_SILENT", SPANS),
    ("src/cuda/spans/span_setup.cuh", "is_first ? 0 : FKDAI_SPAN_SILENT", "FKDAI_SPAN_SILENT", SPANS),
    ("src/cuda/spans/span_setup.cuh", "tokens > start && tokens <= end ?", "tokens >= start && tokens < end ?", SPAN_BITS),
    ("src/cuda/prefill_mma/mma_prepare.cuh", "above == e ? diagonal : 0.f;", "above == e ? diagonal : 0x1p-6f * c[h][2 * h + e];", SPAN_BITS),
    ("src/cuda/spans/span_counts.c", "{.own = behind, .transitions", "{.own = behind - 1, .transitions", SPAN_COUNTS),
    ("src/cuda/backend/cuda_spans.c", ".wants_cut = 0}", ".wants_cut = 1}", SPAN_BITS),
    ("src/cuda/prefill_mma/prefill_mma_launch.cu", "kKernels[p.checkpoints.element != fkdai::Element::Absent]", "kKernels[0]", MMA_LAUNCH),
    ("src/cuda/prefill_mma/prefill_mma_launch.cu", "kKernels[p.checkpoints.element != fkdai::Element::Absent]", "kKernels[1]", MMA_LAUNCH),

    # the Hopper prefill kernel: gates that a quad asks for ahead, checkpoints between parts of a segment; the schedule
    # kernels for plain calls
    ("src/cuda/prefill_sm90/problem/workspace.cuh", "return p.checkpoints.states.element == Element::Absent && are_plain", "return are_plain", CHECKPOINTS),
    ("src/cuda/prefill_sm90/problem/workspace.cuh", "return x.element == Element::Absent || are_whole_rows(x); };", "return true; };", LAYOUTS),
    ("src/cuda/prefill_sm90/problem/workspace.cuh", "return p.turn == Turn::Alone && p.has_lone_jobs();", "return p.has_lone_jobs();", JOBS),
    ("src/cuda/prefill_sm90/roles/state_io.cuh", "if constexpr (kIsPlain) clear(state);", "if constexpr (kIsPlain) return;", JOBS),
    ("src/cuda/prefill_sm90/roles/raw_gates.cuh", "keep(kept, info, Smem::kGatesAhead, info.rows_ahead);", "keep(kept, info, Smem::kGatesAhead + 1, info.rows_ahead);", QUADS),
    ("src/cuda/prefill_sm90/roles/raw_gates.cuh", "kept.is_there = info.rows_ahead > 0;", "kept.is_there = true;", QUADS),
    ("src/cuda/prefill_sm90/mapping/quad_config.cuh", "kGatesAhead = kPreparers * kPrepareGroups;", "kGatesAhead = kPrepareGroups;", QUADS),
    ("src/cuda/prefill_sm90/roles/state_io.cuh", "now.checkpoint + before - 1", "now.checkpoint + before", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/chain_parts.cuh", "is_last ? 1 : 0", "1", CHECKPOINTS),
    ("src/cuda/prefill_sm90/problem/segments.cuh", "if (form == Form::Columns16) return kColumns * sizeof(uint16_t);", "", CHECKPOINTS),
    ("src/cuda/prefill_sm90/problem/chunks.cuh", "length = end * kChunk + forked, end++;", "length = ++end * kChunk;", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/find_segments.cuh", "|| has_chunks_behind(at);", ";", JOBS),
    ("src/cuda/prefill_sm90/roles/find_segments.cuh", "piece.takes_over ? places.handed_over(worker)", "false ? places.handed_over(worker)", JOBS),
    ("src/cuda/prefill_sm90/roles/loads.cuh", "sequence.start + (begin + number) * kChunk", "sequence.start + number * kChunk", CUTS),
    ("src/cuda/prefill_sm90/roles/operands.cuh", "if (kHolds) leave_gammas(stage, held), sync();", "", VALUES),
    ("src/cuda/prefill_sm90/roles/operand_rows.cuh", "    held[0] = held[1];\n", "", VALUES),
    ("src/cuda/prefill_sm90/mapping/duo_solve.cuh", "if (Memory::kAkks % Memory::kSolvers != 0) wait", "if (false) wait", LATE),
    ("src/cuda/prefill_sm90/roles/find_segments.cuh", "            while (!has_the_only<Smem> && done < i) await_end(done++);\n", "", JOBS),
    ("src/cuda/prefill_sm90/mapping/solo_load.cuh", "raw.open_segment(load_values)", "raw.open_segment([] {})", JOBS),
    ("src/cuda/prefill_sm90/mapping/solo_operands.cuh", "is_same_lap ? slot.phase : slot.phase ^ 1}", "slot.phase}", JOBS),
    ("src/cuda/prefill_sm90/mapping/duo_norms.cuh", "int eight = warp; eight < 4;", "int eight = warp; eight < 3;", JOBS),
    ("src/cuda/prefill_sm90/mapping/solo_norms.cuh", "owes = uniform(s->segment_queue.hands_over);", "owes = false;", CUTS),
    ("src/cuda/prefill_sm90/roles/find_segments.cuh", "before_waiting(), wait_together(", "wait_together(", JOBS),
    ("src/cuda/prefill_sm90/problem/workspace.cuh", "p.equal.kind == kClusterKind;", "p.equal.kind != kClusterKind;", CUTS),
    ("src/cuda/prefill_sm90/mapping/duo_load.cuh", "raw.is_followed(load_values_behind)", "raw.is_followed([] {})", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/fork.cuh", "chain.quarter, 2 * quarter + k), k, copy)", "chain.quarter, k), k, copy)", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/fork.cuh", "if (is_scaled) multiply_rows(copy, inverse_factors(factors));", "", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/fork.cuh", "chain.skip_out(number, chunk, u_f16);", "", CHECKPOINTS),
    ("src/cuda/prefill_sm90/mapping/duo_load.cuh", "min(raw.end - 1, before + kFirstChunks)", "raw.end", LATE),
    ("src/cuda/prefill_sm90/mapping/duo_load.cuh", "norms_ready[i - 1]), 0)", "norms_ready[i]), 0)", VALUES),
    ("src/cuda/prefill_sm90/mapping/duo_load.cuh", "uint32_t number = kTurns + rank; number < chunks", "uint32_t number = kTurns + rank; number + 1 < chunks", VALUES),
    ("src/cuda/device/f16_split.cuh", "multiply_16_f16(c, a.rest, b0.main, b1.main);", "", SOLVE),
    ("src/cuda/device/f16_split.cuh", "pack_f16(tf32_rest(low), tf32_rest(high))", "pack_f16(tf32_rest(high), tf32_rest(low))", SOLVE),
    ("src/cuda/prefill_sm90/mapping/duo_operands.cuh", "for (info = await_tiles(i); info.rows > 0 && info.head == head;",
     "for (info = await_tiles(i); info.rows > 0;", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/chain_products.cuh", "both[i] = 0.f;", "both[i] = 1.f;", VALUES),
    # and what its CTAs tell each other in quads and octets
    ("src/cuda/prefill_sm90/mapping/quad_send.cuh", "            await_release<Shape>(s, number);\n            if (elect_one()) {\n", "            if (elect_one()) {\n", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_send.cuh", "            await_release<Shape>(s, number);\n            if (elect_one()) send(", "            if (elect_one()) send(", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_values.cuh", "        wait_together(s.at(s->barriers.chunk_done[slot.index]), slot.phase ^ 1);\n", "", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_store.cuh", "            this->store(out.index, unit, at);\n            mark(mark_store_has_stored, number, lane == 0);\n            if (at.is_last) return;\n            release_tile(number + kOutStages);\n",
     "            if (!at.is_last) release_tile(number + kOutStages);\n            this->store(out.index, unit, at);\n            if (at.is_last) return;\n", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_chain.cuh", "if (is_scaled) multiply_state(stage", "if (false) multiply_state(stage", VALUES),
    ("src/cuda/prefill_sm90/prefill_kernel.cuh", "    return has_it;\n", "    return true;\n", JOBS),
    ("src/cuda/prefill_sm90/prefill_kernel.cuh", "return block_sync<kOtherBarrier, threads>(), Begin::Goes;", "return Begin::Goes;", LATE),
    ("src/cuda/prefill_sm90/roles/refuse.cuh", "for (int n = lane_here(); n <= p.sequences.count;", "for (int n = lane_here(); n < p.sequences.count;", BROKEN),
    ("src/cuda/prefill_sm90/roles/refuse.cuh", "head += threads / kUnits)", "head += 2 * (threads / kUnits))", BROKEN),
    ("src/cuda/prefill_sm90/roles/state_io.cuh", "        if (writes) here.send(here.of_half(to), state);\n", "", VALUES),
    ("src/cuda/prefill_sm90/mapping/duo_store.cuh", "i + kOwnStages < of_peer + kPrepareGroups", "i + kOwnStages + 1 < of_peer + kPrepareGroups", VALUES),
    ("src/cuda/prefill_sm90/mapping/duo_store.cuh", "number + kReceivedStages * kRanks < count", "number + kReceivedStages * kRanks + 1 < count", VALUES),
    ("src/cuda/prefill_sm90/mapping/quad_store.cuh", "< chunks - Shape::kStages;", "< chunks - Shape::kStages - 1;", VALUES),
    ("src/cuda/device/gates.cuh", "ask(p.dt_bias, channel + 1)", "ask(p.dt_bias, channel)", VALUES),
    ("src/cuda/prefill_sm90/mapping/octet_chain.cuh", "            await_follower();\n        });", "        });", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_copy.cuh", "        wait(s.at(s->barriers.checkpoint_free), (n & 1) ^ 1);\n", "", CHECKPOINTS),
    ("src/cuda/prefill_sm90/mapping/quad_copy.cuh", "(is_chain ? 0 : kCopiedRows)", "(is_chain ? kCopiedRows : 0)", CHECKPOINTS),
    ("src/cuda/prefill_sm90/mapping/quad_copy.cuh", "(r & 3) * kRowPairBytes", "(r & 3) * kRowBytes", CHECKPOINTS),
    ("src/cuda/prefill_sm90/roles/loads.cuh", "has_marks ? has_whole_chunks(p) : ", "has_marks ? true : ", CHECKPOINTS),
    ("src/cuda/prefill_sm90/problem/workspace.cuh", " && reinterpret_cast<uintptr_t>(x.data) % 16 == 0", "", CHECKPOINTS),
    ("src/cuda/prefill_sm90/mapping/octet_chain.cuh", "peer_address(address, kChains + half)", "peer_address(address, kChains + (half ^ 1))", LATE),
    ("src/cuda/prefill_sm90/mapping/quad_values.cuh", "arrive_expecting(ready, kUpdateBytes)", "arrive(ready)", LATE),
    ("src/cuda/prefill_sm90/mapping/octet_out.cuh", "multiply_rows(state, inverse_factors(factors)), ", "", VALUES),
    ("src/cuda/prefill_sm90/mapping/octet_out.cuh", "        multiply_rows(state, factors);\n", "", VALUES),
    ("src/cuda/schedule/jobs.cuh", "length % kChunk != 0 && marks > 0 && length % mark_every == 0;", "0;", SCHEDULE),
    ("src/cuda/schedule/jobs.cuh", "job % heads);", "(job + 1) % heads);", SCHEDULE),
    ("src/cuda/schedule/jobs.cuh", "tokens % kChunk == 0 || tokens == length", "tokens % kChunk == 0", SCHEDULE),
    ("src/cuda/schedule/jobs.cuh", "marks - borders - at_end, length", "marks, length", SCHEDULE),
    ("src/cuda/schedule/jobs.cuh", "job / timeline.heads, piece.head", "0, piece.head", CUTS),
    ("src/cuda/schedule/jobs.cuh", "units < most ? units : most", "units", SCHEDULE),
    ("src/cuda/schedule/make_schedule.cuh", "        at_n += timeline.marks_of(out.sequence[n].y);\n", "        at_n++;\n", SCHEDULE),
    ("src/cuda/schedule/jobs.cuh", "chunk_count<kChunk>(length) + stop_units<kChunk>(n, length);", "chunk_count<kChunk>(length);", SCHEDULE),
    ("src/cuda/schedule/make_schedule.cuh", "total - jobs * timeline.job_cost}", "total}", SCHEDULE),
]


def copy_tree(to):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def build_folder(tree, suite):
    return tree / ("build-nvcc" if suite in NEED_NVCC else "build")


def build(tree, suites):
    """Returns the first build that failed, or None."""
    for folder in sorted({build_folder(tree, s) for s in suites}):
        names = sorted({s.split()[0] for s in suites if build_folder(tree, s) == folder})
        command = ["cmake", "--build", folder, "--parallel", str(os.cpu_count()), "--target", *names]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return done
    return None


def configure(tree, suites):
    options = ["-DFKDA_BUILD_CLI=OFF", "-DFKDA_BUILD_TESTS=ON"]
    for folder in {build_folder(tree, s) for s in suites}:
        cuda = ["-DFKDA_CUDA=ON", "-DCMAKE_CUDA_FLAGS=--Ofast-compile=max"] if folder.name == "build-nvcc" else ["-DFKDA_CUDA=OFF"]
        subprocess.run(["cmake", "-S", tree, "-B", folder, *options, *cuda], check=True, capture_output=True)


def passes(tree, suite):
    """Runs a suite up to its first failure. A crash or a hang is a failure too."""
    name, *arguments = suite.split()
    program = next(path for path in (build_folder(tree, suite) / "tests").rglob(name) if path.is_file())
    env = {**os.environ, "CMOCKA_TEST_ABORT": "1"}
    try:
        return subprocess.run([program, *arguments], env=env, capture_output=True, timeout=TIMEOUT_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def try_mutant(tree, mutant):
    """'killed' or 'survived', or what went wrong."""
    name, old, new, suite = mutant
    path = tree / name
    text = path.read_text()
    if text.count(old) != 1:
        return f"the old text is there {text.count(old)} times"
    path.write_text(text.replace(old, new))
    try:
        suites = [suite] if suite else [REFUSALS, REF]
        failed = build(tree, suites)
        if failed is not None:
            return "does not compile:\n" + failed.stdout[-2000:]
        return "survived" if all(passes(tree, s) for s in suites) else "killed"
    finally:
        path.write_text(text)


def main():
    chosen = [m for m in MUTANTS if len(sys.argv) < 2 or sys.argv[1] in m[0]]
    if shutil.which("nvcc") is None:
        chosen = [m for m in chosen if m[3] not in NEED_NVCC]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fkda-mutants-") as folder:
        tree = pathlib.Path(folder)
        copy_tree(tree)
        suites = {m[3] or REFUSALS for m in chosen}
        asked = {*suites, *((REFUSALS, REF) if any(m[3] is None for m in chosen) else ())}
        configure(tree, asked)
        if build(tree, asked) is not None or not all(passes(tree, s) for s in suites):
            sys.exit("the suites must pass before anything is mutated")
        for mutant in chosen:
            result = try_mutant(tree, mutant)
            expected = "killed" if mutant[3] else "survived"    # no suite: an equivalent change, which must pass
            bad += result != expected
            print(f"{'ok  ' if result == expected else 'BAD '} {result:9} {mutant[0]:28} {' '.join(mutant[2].split())[:90] or '(removed) ' + ' '.join(mutant[1].split())[:80]}", flush=True)
    print(f"{len(chosen)} mutants, {bad} not as expected")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
