// The operands of a chunk, from its raw tiles: what a warpgroup makes of q, k, g, whatever the state is.
//
// gamma: the sum of log2 alpha from the chunk's first token to this one; m: gamma after token 15, rounded to an integer, the anchor of the scores.
//
//     1. sum_gates                gamma inside its block of 16 tokens, in place of g; meanwhile other warps make the norms (norms.cuh)
//     2. decay_tiles              -K 2^-m, Q 2^-m in place of k, q; KI = k^ 2^(m-gamma) beside the stage; Kr = k^ 2^(gamma_C-gamma) in place of gamma
//     3. begin/finish_scores      [-A/beta ; M] = [-K ; Q] KI^T
//     4. leave_anchor             -K = -k^ 2^gamma, Q = scale q^ 2^gamma: powers of two, exact
//
// A warpgroup barrier stands behind 1 (there two warps may do) and 2, and before 4.
#pragma once

#include "device/gates.cuh"
#include "device/sm90/store_matrices.cuh"
#include "device/sm90/warpgroup_mma.cuh"
#include "prefill_sm90/problem/chunks.cuh"
#include "prefill_sm90/roles/norms.cuh"
#include "prefill_sm90/roles/operand_rows.cuh"
#include "prefill_sm90/roles/raw_gates.cuh"
#include "prefill_sm90/roles/steep_channels.cuh"

namespace fkdai::prefill {

// What the gates of a worker's only head want, asked for before anything else of the kernel is done. warp: of an operand group.
template <GateKind kind>
__device__ __forceinline__ GateRequest request_only_gate(const Params &p, int worker, int warp) {
    const int head = p.lone_job(worker).y;
    return request_gate<kind>(p, head, static_cast<int64_t>(head) * kWidth + (warp >> 1 & 1) * kHalf + 2 * lane_here());
}

// Warp = 64 channels x 16 tokens, lane = channels 2 lane, 2 lane + 1 of the half.
// `stage` counts the stages of shared memory, `place` those of akk.
// is_raw: q and k have no norm.
template <class Smem, GateKind kind, Pace pace, bool kMakesNorms, bool is_raw>
struct Operands {
    const Params &p;
    SharedView<Smem> s;
    int group, warp, lane;  // warp of the warpgroup `group`

    using Scores = float[16];
    using TileRows = PacedRows<pace>;

    static constexpr int kFours = pace.fours;
    static constexpr bool kHolds = pace.is_held, kAhead = pace.is_ahead, kBeside = pace.is_beside;
    static constexpr bool kEarly = kAhead && kMakesNorms && kind == GateKind::Bounded;  // the first tiles are read before the norms are waited for
    static constexpr bool kPacks = kind == GateKind::Bounded && (kEarly || Smem::kKeepsLane);  // 2^m stays as bf16, 2^gamma_C is made of it: 3 registers

    __device__ __forceinline__ int half() const { return warp >> 1; }
    __device__ __forceinline__ int block() const { return warp & 1; }
    __device__ __forceinline__ int channel() const { return half() * kHalf + 2 * lane; }

    __device__ __forceinline__ Gate<kind> load_gate(int head) const {
        return take_gate(request_gate<kind>(p, head, static_cast<int64_t>(head) * kWidth + channel()));
    }
    __device__ __forceinline__ Gate<kind> take_gate(const GateRequest &request) const {
        Gate<kind> gate;
        gate.take(p, request, lane);
        return gate;
    }

    // ---------------------------------------------------------------- 1

    // This lane's place in a tile of 32 rows of 64 channels, for four tokens at a time: the first four of its block.
    __device__ __forceinline__ uint32_t first_row() const {
        const int row = 16 * block() + (lane >> 3);
        return row * 128 + ((lane & 7) ^ (row & 7)) * 16;
    }

    __device__ __forceinline__ TileRows tile_rows(uint32_t stage) const {
        return {s.at(s->stages[stage].kq[half()]), s.at(s->stages[stage].ki[half()]), s.at(s->score_keys[group][half()]),
                s.at(s->stages[stage].norms) + 64 * block(), first_row()};
    }

    using Gates = RawGates<Smem, kind>;
    using Kept = typename Gates::Kept;
    __device__ __forceinline__ Gates raw_gates() const { return {p, block(), channel(), lane}; }

    // The first tokens' gates. bf16 ones lie in the stage, so nothing of the chunk need be known.
    using FirstGates = typename Gates::Four[kFours];
    __device__ __forceinline__ void ask_gates(uint32_t stage, FirstGates &g, const ChunkInfo &info = {}) const {
        if constexpr (Gates::kAreKept) return;
        const TileRows at = tile_rows(stage);
#pragma unroll
        for (int n = 0; n < kFours; n++)
            raw_gates().load(g[n], at.even + rows_on(at.row, n), raw_gates().first_of(info, 0), 4 * n, info.rows - 16 * block());
    }
    // gamma of each token from the start of its block, in fp32: of the even channels in place of g, of the odd ones where KI will stand. What
    // the whole block decays by goes to `decays`. g: of ask_gates.
    __device__ __forceinline__ void sum_gates(uint32_t stage, const ChunkInfo &info, const Gate<kind> &gate, FirstGates &g, Kept &kept, Held &held) const {
        const int rows = info.rows;
        TileRows at = tile_rows(stage);
        const RowNorms<Smem, is_raw> norms{p, s, lane};
        const uint32_t eight = norms.address(stage, warp);
        RowSquares squares;
        int row = 16 * block();
        float sum[2] = {0.f, 0.f};
        const Gates gates = raw_gates();
        const float *const first = gates.first_of(info, 0);
        const int left = rows - row;
        if constexpr (Gates::kAreKept)
            if (!kept.is_there) gates.keep(kept, info, 0, rows);
        in_turns<pace>([&](int t4, int of) {
            if (kHolds && of == 0) take_turn(held);
#pragma unroll
            for (int n = 0; n < kFours; n++)
                if (kMakesNorms) norms.add_squares(squares, eight, t4 + n);
            if constexpr (Gates::kAreKept) {
#pragma unroll
                for (int n = 0; n < kFours; n++) g[n] = kept.g[n];
#pragma unroll
                for (int n = kFours; n < 4; n++) kept.g[n - kFours] = kept.g[n];
            }
            float a[kFours][2][4];
#pragma unroll
            for (int n = 0; n < kFours; n++)
#pragma unroll
                for (int t = 0; t < 4; t++)
                    a[n][0][t] = gate.log2_alpha(g[n].first(t), 0), a[n][1][t] = gate.log2_alpha(g[n].second(t), 1);
#pragma unroll
            for (int n = 0; n < kFours; n++)
                if (!Gates::kAreKept && t4 + kFours < 4) gates.load(g[n], at.even + rows_on(at.row, n + kFours), first, 4 * (t4 + n + kFours), left);
            if (rows < kChunk) {  // rows past the sequence: no decay, whatever lies there
#pragma unroll
                for (int n = 0; n < kFours; n++)
#pragma unroll
                    for (int t = 0; t < 4; t++)
                        if (row + 4 * n + t >= rows) a[n][0][t] = a[n][1][t] = 0.f;
            }
#pragma unroll
            for (int n = 0; n < kFours; n++) {
                uint32_t gamma[2][4];
#pragma unroll
                for (int t = 0; t < 4; t++)
#pragma unroll
                    for (int i = 0; i < 2; i++) sum[i] += a[n][i][t], gamma[i][t] = __float_as_uint(sum[i]);
                if (kHolds) held[1].set(of + n, gamma[0], gamma[1]);
                else store_matrices(at.even + rows_on(at.row, n), gamma[0]), store_matrices(at.odd + rows_on(at.row, n), gamma[1]);
            }
            at.go_on(), row += 4 * kFours;
        });
        store_float2(s.at(s->stages[stage].before_scores.decays[block()][channel()]), sum[0], sum[1]);
        if (kMakesNorms) norms.store(stage, rows, warp, squares);
    }

    // Where steep channels look for them.
    __device__ __forceinline__ void leave_gammas(uint32_t stage, const Held &held) const {
        const TileRows at = tile_rows(stage);
#pragma unroll
        for (int four = 0; four < 4; four++) {
            const uint32_t to = rows_on(at.row, four);
            store_matrices(at.even + to, held[four >> 1].k[four & 1]), store_matrices(at.odd + to, held[four >> 1].q[four & 1]);
        }
    }

    // ---------------------------------------------------------------- 2

    // Of two channels: what their exponents begin with. One that decays by more than 2^120 inside a block of 16 tokens has no anchor that keeps both
    // factors of its scores finite: it has none in the products, and its scores are added one by one (steep_channels.cuh).
    struct Anchor {
        float to_scores[2];    // from gamma inside the block to the exponent of K and Q: gamma - m; steep: gamma
        float from_scores[2];  // to that of KI and Kr: m - gamma; steep: gamma_C - gamma
        float to_end[2];       // 2^(gamma_C - m), from KI to Kr; steep: 1
        float leave[2];        // 2^m; steep: 1
        float end[2];          // 2^gamma_C
        uint32_t power;        // kPacks: leave, as bf16
        uint32_t in_scores;    // all ones in the halves of a pair that take part
    };
    __device__ __forceinline__ Anchor load_anchor(uint32_t stage) const {
        const float2 first = load_float2(s.at(s->stages[stage].before_scores.decays[0][channel()])), second = load_float2(s.at(s->stages[stage].before_scores.decays[1][channel()]));
        const float before[2] = {first.x, first.y}, last[2] = {second.x, second.y};
        Anchor anchor{};
        anchor.in_scores = ~0u;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float m = round_to_integer(before[i]), rest = before[i] - m;
            anchor.to_scores[i] = block() == 0 ? -m : rest, anchor.from_scores[i] = -anchor.to_scores[i];
            anchor.to_end[i] = exp2_fast(rest + last[i]), anchor.leave[i] = exp2_fast(m);
            anchor.end[i] = anchor.to_end[i] * anchor.leave[i];
            if (kind == GateKind::Bounded || !is_steep(before[i], last[i])) continue;
            anchor.to_scores[i] = block() == 0 ? 0.f : before[i], anchor.from_scores[i] = block() == 0 ? before[i] + last[i] : last[i];
            anchor.end[i] = exp2_fast(before[i] + last[i]), anchor.to_end[i] = anchor.leave[i] = 1.f;
            anchor.in_scores &= i == 0 ? 0xffff0000u : 0xffffu;
        }
        if (kPacks) anchor.power = pack_bf16(anchor.leave[0], anchor.leave[1]);
        return anchor;
    }
    // 2^gamma_C of channel i of the two.
    __device__ __forceinline__ static float end_of(const Anchor &anchor, int i) {
        if (!kPacks) return anchor.end[i];
        return anchor.to_end[i] * (i == 0 ? low_bf16(anchor.power) : high_bf16(anchor.power));
    }

    // [32,128] each, rounded once. raw: kEarly: the first tokens' tiles.
    __device__ __forceinline__ void decay_tiles(uint32_t stage, int rows, const Anchor &anchor, RawFour (&raw)[kFours], Held &held) const {
        TileRows at = tile_rows(stage);
        int row = 16 * block();
        if (kAhead) {
#pragma unroll
            for (int n = 0; n < kFours; n++) kEarly ? at.load_norms(raw[n], n) : at.load(raw[n], n);
        }
        Eight now;
        in_turns<pace>([&](int t4, int of) {
            if (kHolds && of == 0) now = take_turn(held);
            if (!kAhead) {
#pragma unroll
                for (int n = 0; n < kFours; n++) at.load(raw[n], n);
            }
#pragma unroll
            for (int n = 0; n < kFours; n++)
                if (kHolds) raw[n].take(now, of + n);
            if (rows < kChunk) {  // rows past the sequence: zeros, whatever lies there
#pragma unroll
                for (int n = 0; n < kFours; n++)
#pragma unroll
                    for (int t = 0; t < 4; t++)
                        if (row + 4 * n + t >= rows) raw[n].k[t] = raw[n].q[t] = 0;
            }
            uint32_t kd[kFours][4], qd[kFours][4], score[kFours][4], recent[kFours][4];
#pragma unroll
            for (int n = 0; n < kFours; n++) decay_four(anchor, raw[n], kd[n], qd[n], score[n], recent[n]);
            if (kAhead && t4 + kFours < 4) {
#pragma unroll
                for (int n = 0; n < kFours; n++) at.load(raw[n], kFours + n);
            }
#pragma unroll
            for (int n = 0; n < kFours; n++) {
                at.store(n, kd[n], qd[n], score[n], recent[n]);
                if (kHolds) held[1].set(of + n, kd[n], qd[n]);
            }
            at.go_on(), row += 4 * kFours;
        });
    }

    // Of four tokens and two channels: -K 2^-m, Q 2^-m, KI, Kr.
    __device__ __forceinline__ static void decay_four(const Anchor &anchor, const RawFour &raw, uint32_t (&kd)[4], uint32_t (&qd)[4], uint32_t (&score)[4],
                                                      uint32_t (&recent)[4]) {
        const float k_norm[4] = {raw.k_norm.x, raw.k_norm.y, raw.k_norm.z, raw.k_norm.w};
        const float q_norm[4] = {raw.q_norm.x, raw.q_norm.y, raw.q_norm.z, raw.q_norm.w};
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const float gamma0 = __uint_as_float(raw.gamma[0][t]), gamma1 = __uint_as_float(raw.gamma[1][t]);
            const float e0 = gamma0 + anchor.to_scores[0], e1 = gamma1 + anchor.to_scores[1];
            const float d0 = kind == GateKind::Bounded ? -e0 : anchor.from_scores[0] - gamma0;
            const float d1 = kind == GateKind::Bounded ? -e1 : anchor.from_scores[1] - gamma1;
            const float f0 = exp2_fast(e0), f1 = exp2_fast(e1);
            const float k0 = low_bf16(raw.k[t]) * k_norm[t], k1 = high_bf16(raw.k[t]) * k_norm[t];
            kd[t] = pack_bf16(k0 * -f0, k1 * -f1);
            if constexpr (is_raw) qd[t] = pack_bf16(low_bf16(raw.q[t]) * q_norm[t] * f0, high_bf16(raw.q[t]) * q_norm[t] * f1);  // any 2^-n
            else qd[t] = pack_bf16(low_bf16(raw.q[t]) * (q_norm[t] * f0), high_bf16(raw.q[t]) * (q_norm[t] * f1));
            const float i0 = k0 * exp2_fast(d0), i1 = k1 * exp2_fast(d1);
            score[t] = pack_bf16(i0, i1);
            if (kind != GateKind::Bounded) score[t] &= anchor.in_scores;
            recent[t] = pack_f16(i0 * anchor.to_end[0], i1 * anchor.to_end[1]);
        }
    }

    // ---------------------------------------------------------------- 3

    // [-akk/beta ; M] = [-K ; Q] KI^T   [64,32] = [64,128] [128,32]; beside what steep channels have added
    __device__ __forceinline__ void begin_scores(uint32_t stage, Scores &c) const {
        const Operand<0, 1024, Swizzle::B128> a(s.at(s->stages[stage].kq[0])), b(s.at(s->score_keys[group][0]));
        pin(c);
        mma_begin();
#pragma unroll
        for (int k = 0; k < 8; k++)
            mma<MmaSharedN32>(a.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::kq[0])}),
                              b.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::ki[0])}), c,
                              k == 0 && kind == GateKind::Bounded ? ScaleOut::Zero : ScaleOut::One);
        mma_commit();
    }
    // Of M's rows of this lane, the diagonal; read before the scores overwrite it.
    __device__ __forceinline__ float2 diagonal(uint32_t stage) const {
        const uint32_t at = s.at(s->stages[stage].norms.product) + (16 * (warp & 1) + (lane >> 2)) * 4;
        return make_float2(load_float(at), load_float(at + 32));
    }
    __device__ __forceinline__ bool stores_akk() const { return warp < 2; }

    // akk/beta, fp32: the lower blocks, in the order that TrilSolve reads.
    __device__ __forceinline__ void store_akk(const Scores &c, uint32_t place) const {
        const uint32_t to = s.at(s->akk[place][lane >> 2][2 * (lane & 3) + (warp == 0 ? 32 : 0)]);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            if (b >= 2 && warp == 0) continue;
            store_float2(to + b * 32, -c[4 * b], -c[4 * b + 1]);
            store_float2(to + b * 32 + 8 * kAkkPitch * 4, -c[4 * b + 2], -c[4 * b + 3]);
        }
    }

    // M (fp16), in blocks of 8 by 8: those on the diagonal by select, as the other half may hold inf, and beside each of every second a block of
    // zeros.
    // The upper blocks of 16 by 16 stay zero from the start.
    __device__ __forceinline__ void store_mqk(const Scores &c, const float2 &diagonal, uint32_t stage) const {
        const int row = lane >> 2;
        const uint32_t to = s.at(s->stages[stage].mqk) + (16 * (warp - 2) + row) * 64 + (lane & 3) * 4;
        const uint32_t block = (row >> 1 & 3) * 16;  // of this row, where columns 0 to 7 stand
        float d[8];
#pragma unroll
        for (int i = 0; i < 8; i++) d[i] = warp == 2 ? c[i] : c[8 + i];
        if (warp == 3) store_pairs(to, block, 0, c), store_pairs(to, block, 1, c + 4);
        d[0] = score(d[0], 0, diagonal.x), d[1] = score(d[1], 1, diagonal.x), d[4] = d[5] = 0.f;
        d[6] = score(d[6], 0, diagonal.y), d[7] = score(d[7], 1, diagonal.y);
        const int first = 2 * (warp - 2);
        store_pairs(to, block, first, d), store_pairs(to, block, first + 1, d + 4);
    }
    // Of block `column` of 8, two rows 8 apart.
    __device__ __forceinline__ static void store_pairs(uint32_t to, uint32_t block, int column, const float *x) {
        store_word(to + (block ^ column * 16), pack_f16(x[0], x[1])), store_word(to + (block ^ column * 16) + 8 * 64, pack_f16(x[2], x[3]));
    }
    // Element (lane/4, 2 (lane%4) + odd) of a block on the diagonal.
    __device__ __forceinline__ float score(float x, int odd, float diagonal) const {
        const int i = lane >> 2, j = 2 * (lane & 3) + odd;
        return j < i ? x : j == i ? diagonal : 0.f;
    }

    // ---------------------------------------------------------------- 4

    __device__ __forceinline__ uint32_t anchored_rows(uint32_t stage) const { return s.at(s->stages[stage].kq[half()]) + first_row(); }
    // The first eight have been read while the scores were made if kBeside, all have been held if kHolds.
    __device__ __forceinline__ void leave_anchor(uint32_t stage, const Anchor &anchor, Held &held) const {
        const uint32_t power = kPacks ? anchor.power : pack_bf16(anchor.leave[0], anchor.leave[1]), kq = anchored_rows(stage);
        Eight &first = held[0], &second = held[1];
        if (!kHolds && !kBeside) first.load(kq);
        if (!kHolds) second.load(rows_on(kq, 2));
        first.store(kq, power);
        second.store(rows_on(kq, 2), power);
        if (block() == 1) {
            const uint32_t decay = s.at(s->stages[stage].gate) + decay_slot(channel()) * 4;
            store_float2(decay, end_of(anchor, 0), end_of(anchor, 1));
        }
    }

    // The keys of this warp's tokens and channels, times 2^n: K S is what the state holds for a key as it came. Rare.
    __device__ __forceinline__ void restore_keys(uint32_t stage) const {
        const TokenSize *const sizes = s->token_sizes[stage] + 16 * block();
        if (!__any_sync(~0u, low_exponent(sizes[lane & 15].exponents) != 0)) return;
        uint32_t at = s.at(s->stages[stage].kq[half()]) + first_row();
#pragma unroll 1
        for (int t4 = 0; t4 < 4; t4++, at = rows_on(at, 1)) {
            uint32_t k[4];
            load_matrices(k, at);
#pragma unroll
            for (int t = 0; t < 4; t++) {
                const float factor = power_of_two(low_exponent(sizes[4 * t4 + t].exponents));
                k[t] = multiply_pairs_bf16(k[t], pack_bf16(factor, factor));
            }
            store_matrices(at, k);
        }
    }

    // All of it, for a chunk whose raw tiles are there. first_gates: of ask_gates; kept: its gates, if they are there. sync_decays: at least the two warps
    // of a half of the channels meet; sync: the warpgroup does; await_norms: until they
    // are there; await_place: until akk's place is free; announce_scores: akk is there, for the solve; reach: a moment.
    template <class SyncDecays, class Sync, class AwaitNorms, class AwaitPlace, class AnnounceScores, class Reach>
    __device__ __forceinline__ void make(uint32_t stage, uint32_t place, const ChunkInfo &info, const Gate<kind> &gate, FirstGates &first_gates,
                                         Kept &kept, const SyncDecays &sync_decays, const Sync &sync, const AwaitNorms &await_norms, const AwaitPlace &await_place,
                                         const AnnounceScores &announce_scores, const Reach &reach) const {
        const int rows = info.rows;
        if constexpr (Gates::kAreKept) raw_gates().prefetch_next(info);
        Held held;
        sum_gates(stage, info, gate, first_gates, kept, held);
        RawFour raw[kFours];
        if (kEarly) {
#pragma unroll
            for (int n = 0; n < kFours; n++) tile_rows(stage).load_tiles(raw[n], n);
        }
        sync_decays();
        await_norms();
        reach(mark_operand_has_gates);
        const Anchor anchor = load_anchor(stage);
        const SteepChannels<Smem> steep{s, group, warp, lane};
        typename SteepChannels<Smem>::Pairs steep_scores{};
        if (kind != GateKind::Bounded && steep.is_any_steep(stage)) {
            if (kHolds) leave_gammas(stage, held), sync();
            steep.sum(stage, rows, steep_scores);
            sync();  // it reads what the others are about to overwrite
        }
        decay_tiles(stage, rows, anchor, raw, held);
        const float2 on_diagonal = diagonal(stage);
        fence_async_proxy();
        sync();
        reach(mark_operand_has_tiles_of_scores);
        Scores scores;
        if (kind != GateKind::Bounded) steep.widen(steep_scores, scores);
        begin_scores(stage, scores);
        if (!kHolds && kBeside) held[0].load(anchored_rows(stage));
        await_place();
        mma_wait<0>();
        pin(scores);
        sync();
        reach(mark_operand_has_scores);
        if (stores_akk()) store_akk(scores, place), announce_scores();
        else store_mqk(scores, on_diagonal, stage);
        leave_anchor(stage, anchor, held);
        if constexpr (is_raw) restore_keys(stage);
        fence_async_proxy();
    }
};

}  // namespace fkdai::prefill
