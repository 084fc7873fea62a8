// From cu_seqlens to the entries that the prefill launches see instead of sequences (backend/span_call.h). One block: the sequences are counted first,
// then each thread writes the entries of some spans.
#pragma once

#include "backend/span_call.h"
#include "device/call_tensors.cuh"
#include "device/dependent_launch.cuh"
#include "schedule/make_schedule.cuh"

namespace fkdai::spans {

inline constexpr int kSetupThreads = 1024, kWidth = 128;

using Setup = fkdai_span_setup;

__device__ __forceinline__ int64_t element_of(const fkdai_vector &x, int64_t i) {
    return x.element == FKDAI_I64 ? static_cast<const int64_t *>(x.data)[i] : static_cast<const int32_t *>(x.data)[i];
}
// Slot i of a pool, or i; null: -1. One that is too large stays as it is: whoever uses it reports it.
__device__ __forceinline__ int64_t slot_of(const fkdai_vector &slots, int first, int64_t i) {
    if (slots.element == FKDAI_ABSENT) return i;
    const int64_t slot = element_of(slots, i);
    return slot < first ? kNoRow : slot;
}

__device__ __forceinline__ Sequences sequences_of(const Setup &s) {
    return {s.cu_seqlens.data, s.cu_seqlens.element == FKDAI_I64, static_cast<int>(s.N), static_cast<int>(s.T)};
}

__device__ __forceinline__ int spans_of(const fkdai_span_rule &rule, int length) {
    return length <= rule.first ? 1 : 1 + static_cast<int>((length - rule.first + rule.next - 1) / rule.next);
}
// First token of span s, inside its sequence.
__device__ __forceinline__ int64_t start_of(const fkdai_span_rule &rule, int s) { return s == 0 ? 0 : rule.first + (s - 1) * rule.next; }

// Counts for each sequence what lies before it. All threads.
template <class Count>
__device__ __forceinline__ void count_before(int32_t *before, int count, int *scratch, const Count &of) {
    const int each = (count + kSetupThreads - 1) / kSetupThreads;
    const int first = min(thread_here() * each, count), last = min(first + each, count);
    int sum = 0, unused = 0;
    for (int n = first; n < last; n++) sum += of(n);
    __syncthreads();
    int end = sum;
    block_scan<kSetupThreads>(end, unused, scratch);
    int at_n = end - sum;
    for (int n = first; n < last; n++) before[n] = at_n, at_n += of(n);
    if (thread_here() == kSetupThreads - 1) before[count] = end;
    __syncthreads();
}

struct Span {
    int sequence, index, count;  // span `index` of `count`
    SequenceSpan of, tokens;     // of: the whole sequence
};

// Entry i of all spans: sequence n has its first at before[n] + n.
__device__ __forceinline__ Span find_span(const Setup &s, int64_t i) {
    int low = 0, high = static_cast<int>(s.N) - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (s.before[middle] + middle <= i) low = middle;
        else high = middle - 1;
    }
    const SequenceSpan of = sequences_of(s).span(low);
    const int index = static_cast<int>(i - s.before[low] - low), count = s.before[low + 1] - s.before[low] + 1;
    const int64_t start = start_of(s.rule, index), end = index + 1 < count ? start_of(s.rule, index + 1) : of.length;
    return {low, index, count, of, {of.start + static_cast<int>(start), of.batch, static_cast<int>(end - start)}};
}

__device__ __forceinline__ void write(const fkdai_span_entries &to, int64_t i, const SequenceSpan &tokens, int64_t initial, int64_t final, int flags = 0) {
    to.table[i] = {tokens.start, tokens.batch, tokens.length, flags};
    to.initial[i] = initial, to.final[i] = final;
}

__device__ __forceinline__ void write_checkpoint(const Setup &s, const fkdai_span_entries &to, int64_t at, int64_t tokens, int64_t number) {
    const auto &of = s.checkpoints;
    const bool is_there = tokens > 0 && number < of.count;
    if (tokens > 0 && !is_there) report(s.device_status, kBrokenCheckpoint);
    to.offsets[at] = is_there ? static_cast<int32_t>(tokens) : 0;
    to.slots[at] = is_there ? slot_of(of.slots, of.first_slot, number) : kNoRow;
}

// Those of entry i, after more than `start` and at most `end` tokens of the sequence.
__device__ __forceinline__ void write_checkpoints(const Setup &s, const fkdai_span_entries &to, int64_t i, const Span &span) {
    const auto &of = s.checkpoints;
    const int64_t start = start_of(s.rule, span.index), end = start + span.tokens.length;
    for (int64_t c = 0; c < of.per_entry; c++) {
        int64_t tokens = 0, number = 0;
        if (of.every > 0) {
            const int64_t which = start / of.every + c;
            tokens = (which + 1) * of.every, number = s.marks_before[span.sequence] + which;
        } else {
            number = span.sequence * of.per_sequence + c, tokens = element_of(of.offsets, number);
            if (tokens > span.of.length && span.index == 0) report(s.device_status, kBrokenCheckpoint);
        }
        write_checkpoint(s, to, i * of.per_entry + c, tokens > start && tokens <= end ? tokens - start : 0, number);
    }
}
__device__ __forceinline__ void write_no_checkpoints(const Setup &s, const fkdai_span_entries &to, int64_t i) {
    for (int64_t c = 0; c < s.checkpoints.per_entry; c++) write_checkpoint(s, to, i * s.checkpoints.per_entry + c, 0, 0);
}

// Entry i of all spans.
__device__ __forceinline__ void write_span(const Setup &s, int64_t i) {
    const Span span = find_span(s, i);
    const int n = span.sequence;
    const int64_t row = s.before[n] + span.index;  // of `starts`, that the span behind this one takes; of early
    const bool is_first = span.index == 0, is_last = span.index + 1 == span.count, is_masked = s.initial_mask != nullptr && s.initial_mask[n] == 0;
    const int64_t initial = !is_first ? FKDAI_SPAN_STATE - (row - 1) : is_masked ? kNoRow : slot_of(s.initial_slots, s.initial_first_slot, n);
    if (!is_first || is_last) {
        const int64_t at = n - s.cut_before[n] + s.before[n] + (is_first ? 0 : span.index - 1);
        write(s.late, at, span.tokens, initial, is_last ? slot_of(s.final_slots, s.final_first_slot, n) : kNoRow);
        write_checkpoints(s, s.late, at, span);
    }
    if (is_last) return;
    write(s.early, row, span.tokens, is_first ? initial : kNoRow, row, is_first ? 0 : FKDAI_SPAN_SILENT);
    if (is_first) return s.cut[s.cut_before[n]] = n, write_checkpoints(s, s.early, row, span);
    const int64_t transition = row - 1 - s.cut_before[n], at = s.before[s.N] + transition;
    write_no_checkpoints(s, s.early, row);
    write(s.early, at, span.tokens, FKDAI_SPAN_STATE, s.first_transition + transition, FKDAI_SPAN_TRANSITION | FKDAI_SPAN_SILENT);
    write_no_checkpoints(s, s.early, at);
}

__device__ __forceinline__ void empty_from(const Setup &s, const fkdai_span_entries &entries, int64_t first) {
    for (int64_t i = first + thread_here(); i < entries.count; i += kSetupThreads) {
        write(entries, i, {0, 0, 0}, kNoRow, kNoRow, FKDAI_SPAN_UNWANTED);
        write_no_checkpoints(s, entries, i);
    }
}

// Whoever sees the entries fills what the caller asked for with NaN: the first N late ones have his final states, and all his checkpoints.
__device__ __forceinline__ void write_broken(const Setup &s) {
    const auto &of = s.checkpoints;
    for (int64_t i = thread_here(); i < s.late.count; i += kSetupThreads)
        write(s.late, i, {0, 0, -1}, kNoRow, i < s.N ? slot_of(s.final_slots, s.final_first_slot, i) : kNoRow);
    const int64_t most = of.every > 0 ? s.T / of.every : s.N * of.per_sequence;
    for (int64_t i = thread_here(); i < s.late.count * of.per_entry; i += kSetupThreads)
        write_checkpoint(s, s.late, i, i < most && i < of.count && (of.every > 0 || element_of(of.offsets, i) > 0), i);
    if (thread_here() == 0) s.cut_before[s.N] = 0;  // no state is carried
    empty_from(s, s.early, 0);
}

__device__ __forceinline__ void set_up_entries(const Setup &s, int *scratch) {
    const Sequences sequences = sequences_of(s);
    const int count = sequences.count;
    bool is_broken = false;
    for (int n = thread_here(); n <= count; n += kSetupThreads) is_broken |= sequences.is_broken_at(n);
    if (__syncthreads_or(is_broken)) return write_broken(s);
    count_before(s.before, count, scratch, [&](int n) { return spans_of(s.rule, sequences.span(n).length) - 1; });
    count_before(s.cut_before, count, scratch, [&](int n) { return s.before[n + 1] > s.before[n]; });
    if (s.checkpoints.every > 0)
        count_before(s.marks_before, count, scratch, [&](int n) { return static_cast<int>(sequences.span(n).length / s.checkpoints.every); });
    const int64_t inner = s.before[count], cut = s.cut_before[count];
    for (int64_t i = thread_here(); i < inner + count; i += kSetupThreads) write_span(s, i);
    empty_from(s, s.late, count - cut + inner), empty_from(s, s.early, 2 * inner - cut);
}

// Block 0: the entries. The others: a head of the identity each, in turns.
__global__ void __launch_bounds__(kSetupThreads) set_up_kernel(const __grid_constant__ Setup s) {
    __shared__ int scratch[2 * kSetupThreads / 32];
    release_next_kernel();
    if (blockIdx.x == 0) return set_up_entries(s, scratch);
    for (int64_t head = blockIdx.x - 1; head < s.HV; head += gridDim.x - 1)
        for (int i = thread_here(); i < kWidth * kWidth; i += kSetupThreads)
            s.identity[head * (kWidth * kWidth) + i] = i % (kWidth + 1) == 0 ? 1.f : 0.f;
}

}  // namespace fkdai::spans
