// The schedule, emulated, against plain sums: what a sequence weighs, with checkpoints at marks and at the caller's offsets, where it stands on the
// timeline, and how many marks come before it.
#include <cstdio>
#include <random>

#include "emulator.h"
#include "schedule/make_schedule.cuh"

namespace {

using namespace fkdai;

constexpr int kChunk = 32, kThreads = 64, kMost = 200;
int ran = 0, failed = 0;

struct Problem {
    std::vector<int> lengths;
    int mark_every = 0, per_sequence = 0;
    std::vector<int64_t> offsets{};  // [N][per_sequence]
};

// Checkpoints after `tokens` tokens: nothing where there is no state to keep, a border of chunks or the end of the sequence, or a chunk made twice.
int64_t units_of(int64_t tokens, int length) {
    if (tokens <= 0 || tokens > length) return 0;
    return tokens % kChunk == 0 || tokens == length ? FKDAI_BORDER_COST : FKDAI_FORK_COST;
}
int stop_units(const Problem &x, size_t n) {
    const int length = x.lengths[n];
    int64_t units = 0;
    if (x.mark_every > 0)
        for (int64_t tokens = x.mark_every; tokens <= length; tokens += x.mark_every) units += units_of(tokens, length);
    const auto each = static_cast<size_t>(x.per_sequence);
    for (size_t i = 0; x.mark_every == 0 && i < each; i++) units += units_of(x.offsets[n * each + i], length);
    const int64_t most = int64_t{kMostStopCost} * ((length + kChunk - 1) / kChunk);
    return static_cast<int>(units < most ? units : most);
}

void check(const char *name, const Problem &x, int heads = 3) {
    static int32_t prefix[kMost + 1], marks[kMost];
    static int2 sequence[kMost];
    static Cut cut;
    const int N = static_cast<int>(x.lengths.size());
    std::vector<int64_t> bounds(1, 0);
    for (const int length : x.lengths) bounds.push_back(bounds.back() + length);
    Timeline t{};
    t.sequences = {bounds.data(), true, N, static_cast<int>(bounds.back())};
    t.kinds[0] = {4, 110, 3, 0}, t.kinds[1] = {8, 198, 3, 0}, t.kinds[2] = {3, 70, 7, 100}, t.heads = heads, t.job_cost = 3;
    t.mark_every = x.mark_every, t.per_sequence = x.per_sequence, t.offsets = {x.offsets.data(), true};
    const Schedule out{&cut, prefix, sequence, x.mark_every > 0 ? marks : nullptr, false};
    memset(prefix, 0xff, sizeof prefix), memset(marks, 0xff, sizeof marks);
    bool good = emulator::launch(1, 1, kThreads, 1024, 1, [&] {
        make_schedule<kChunk, kThreads>(t, out, (*emulator::self().cluster)[0].memory.get());
    });
    int64_t at = 0, before = 0, longest = 0;
    for (int n = 0; n < N; n++) {
        const int length = x.lengths[static_cast<size_t>(n)], units = stop_units(x, static_cast<size_t>(n));
        const int64_t weight = (length + kChunk - 1) / kChunk + t.job_cost + units;
        if (prefix[n] != at || (x.mark_every > 0 && marks[n] != before)) {
            printf("  %s: sequence %d of %d tokens at %d, wanted %lld; %d marks before, wanted %lld\n", name, n, length, prefix[n],
                   static_cast<long long>(at), marks[n], static_cast<long long>(before));
            good = false;
            break;
        }
        at += weight, longest = weight > longest ? weight : longest;
        before += x.mark_every > 0 ? length / x.mark_every : 0;
    }
    const int64_t jobs = int64_t{N} * heads;
    const Cut wanted = best_cut(t.kinds, {jobs, longest - t.job_cost, at * heads - jobs * t.job_cost});
    good = good && prefix[N] == at && cut.span == wanted.span && cut.kind == wanted.kind;
    ran++, failed += !good;
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
}

bool is_same(const Piece &a, const Piece &b) {
    return a.sequence_index == b.sequence_index && a.head == b.head && a.begin == b.begin && a.end == b.end && a.takes_over == b.takes_over &&
           a.hands_over == b.hands_over && a.sequence.batch == b.sequence.batch && a.sequence.length == b.sequence.length;
}

// Sequences of equal length: the three numbers say what the schedule in memory would.
void check_equal(int N, int heads, int length, int mark_every) {
    static int32_t prefix[kMost + 1];
    static int2 sequence[kMost];
    static Cut cut;
    Timeline made{};
    made.sequences = {nullptr, false, N, length};
    made.kinds[0] = {4, 110, 3, 0}, made.kinds[1] = {8, 198, 3, 0}, made.heads = heads, made.job_cost = 3, made.mark_every = mark_every;
    Timeline equal = made;
    equal.equal = equal_jobs<kChunk>(equal);
    const Schedule out{&cut, prefix, sequence, nullptr, false};
    bool good = emulator::launch(1, 1, kThreads, 1024, 1, [&] {
        make_schedule<kChunk, kThreads>(made, out, (*emulator::self().cluster)[0].memory.get());
    });
    made.schedule = out;
    good = good && equal.equal.kind == cut.kind;
    int64_t chunks = 0;
    for (int worker = 0; worker < made.kinds[cut.kind].count; worker++) {
        PieceIterator<kChunk> first(made, worker), second(equal, worker);
        Piece early{};
        bool is_first = first_equal_piece<kChunk>(equal, worker, early);    // or it has none, or one without chunks
        for (bool more = true; more;) {
            Piece a{}, b{};
            more = first.next(made, a);
            good = good && second.next(equal, b) == more && is_same(a, b);
            good = good && (!is_first || is_same(early, a)), is_first = false;
            chunks += a.end - a.begin;
        }
    }
    good = good && chunks == int64_t{N} * heads * chunk_count<kChunk>(length);
    ran++, failed += !good;
    printf("%s %d sequences of %d tokens, %d heads, marks every %d\n", good ? "ok  " : "FAIL", N, length, heads, mark_every);
}

}  // namespace

int main() {
    std::mt19937 random(14);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    std::vector<int> lengths{0, 1, 31, 32, 33, 63, 64, 65, 96, 1000, 1024, 0};
    while (lengths.size() < kMost) lengths.push_back(below(400));
    check("no checkpoints", {lengths});
    for (const int every : {1, 5, 16, 24, 31, 32, 33, 48, 64, 96, 100, 1024, 1 << 20}) {
        char name[64];
        snprintf(name, sizeof name, "every %d tokens", every);
        check(name, {lengths, every});
    }
    Problem at{lengths, 0, 5};
    for (const int length : lengths)
        for (const int tokens : {below(length + 1), length, length + 1 - 2 * below(2), 32 * below(14), -below(40)}) at.offsets.push_back(tokens);
    at.offsets[0] = INT64_MIN, at.offsets[1] = INT64_MAX, at.offsets[7] = int64_t{1} << 32;
    check("at offsets", at);
    for (const int length : {0, 1, 33, 1000, 8192})
        for (const int every : {0, 1, 48, 64}) check_equal(1 + below(kMost), 1 + below(16), length, every);
    printf("test_schedule: ran %d, failed %d\n", ran, failed);
    return failed != 0;
}
