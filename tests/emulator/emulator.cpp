// emulator.cpp: the scheduler, meetings, the copy engine, the cluster's shared memory.
#include "emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "fiber.h"

namespace emulator {

Thread *running = nullptr;
uint64_t changes = 0;

namespace {

struct Worker : Thread {
    Fiber fiber;
    Condition waits_for;     // without one: for nothing, or in a meeting
    bool is_done = false;
};
Worker &worker() { return static_cast<Worker &>(*running); }

// xorshift64*: orders need no more, and it is called once a thread and round.
struct Random {
    using result_type = uint64_t;
    uint64_t state;
    static constexpr uint64_t min() { return 0; }
    static constexpr uint64_t max() { return UINT64_MAX; }
    uint64_t operator()() {
        state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
        return state * UINT64_C(0x2545f4914f6cdd1d);
    }
};

struct Copy {
    Thread *by;
    unsigned patience;       // rounds of the scheduler that it takes on average
    std::function<void()> happen;
};

const std::function<void()> *body = nullptr;
std::vector<Copy> in_flight;
bool copies_wait = false;
std::vector<Worker *> next_round;    // who can go on in it
std::vector<Worker *> polled;        // who waits for a condition; the rest is in meetings

void finish_copy(size_t i) {
    const Copy copy = std::move(in_flight[i]);
    in_flight.erase(in_flight.begin() + static_cast<ptrdiff_t>(i));
    running = copy.by;
    copy.happen();
    changes++;
}

void let_go(std::vector<Thread *> &waiting) {
    for (Thread *t : waiting) next_round.push_back(static_cast<Worker *>(t));
    waiting.clear();
}

void settle(ClusterMeeting &m) {
    if (m.arrived < m.expected || m.expected == 0) return;
    m.arrived = 0, m.times++;
    let_go(m.waiting);
}

void enter() {
    (*body)();
    Worker &w = worker();
    w.cluster_meeting->expected--;
    settle(*w.cluster_meeting);
    w.is_done = true;
    w.fiber.leave_for_good();
}

constexpr unsigned kLate = 100;
bool is_late(const Thread &t, Laggard laggard) {
    return t.warp() == laggard.warp && static_cast<int>(t.cluster_rank) == laggard.rank && t.lane() >= 4;
}

bool can_go_on(Worker &w) {
    running = &w;
    return w.waits_for.holds == nullptr || w.waits_for.holds(w.waits_for.ready);
}

void print_deadlock(const std::vector<std::unique_ptr<Worker>> &workers) {
    printf("deadlock: waiting warps");
    for (auto &w : workers)
        if (!w->is_done && w->lane() == 0) printf(" %u/%d", w->block.x, w->warp());
    printf("\n");
}

bool run_all(const std::vector<std::unique_ptr<Worker>> &workers, unsigned seed, Laggard laggard) {
    Random random{0x9e3779b97f4a7c15u + seed};
    std::vector<Worker *> round;
    next_round.clear(), polled.clear();
    uint64_t seen = changes;
    for (auto &w : workers) next_round.push_back(w.get());
    size_t left = workers.size();
    copies_wait = seed != 0;
    while (left > 0 || !in_flight.empty()) {
        bool moved = false;
        for (size_t i = in_flight.size(); i-- > 0;)
            if (random() % in_flight[i].patience == 0) finish_copy(i), moved = true;
        round.swap(next_round), next_round.clear();
        if (changes != seen) round.insert(round.end(), polled.begin(), polled.end()), polled.clear();
        seen = changes;
        if (seed != 0) std::shuffle(round.begin(), round.end(), random);
        for (Worker *w : round) {
            const bool is_ready = can_go_on(*w), is_held_back = is_ready && is_late(*w, laggard) && random() % kLate != 0;
            moved = moved || is_ready;
            if (!is_ready || is_held_back) {
                (is_ready ? next_round : polled).push_back(w);
                continue;
            }
            w->waits_for = {};
            w->fiber.resume();
            left -= w->is_done;
        }
        if (moved || !in_flight.empty() || changes != seen) continue;
        print_deadlock(workers);
        return false;
    }
    return true;
}

}  // namespace

void wait_until(Condition condition) {
    worker().waits_for = condition;
    polled.push_back(&worker());
    worker().fiber.leave();
}

void wait_for_others(Meeting &meeting) {
    meeting.waiting.push_back(running);
    worker().fiber.leave();
}

void let_go(Meeting &meeting) {
    meeting.gone_on = 0;
    let_go(meeting.waiting);
}

void arrive(Meeting &meeting) {
    if (meeting.is_last()) let_go(meeting);
    else meeting.gone_on++;
}

bool block_or(unsigned threads, bool holds) {
    Block &block = self().own();
    block.any.expected = threads;
    meet(block.any, self().thread.x, &holds, [&block](void **) {
        bool any = false;
        for (const void *each : block.any.brought) any = any || (each != nullptr && *static_cast<const bool *>(each));
        for (void *&each : block.any.brought) {
            if (each != nullptr) *static_cast<bool *>(each) = any;
            each = nullptr;
        }
    });
    return holds;
}

void arrive_at_cluster() {
    ClusterMeeting &m = *self().cluster_meeting;
    self().arrived_for = m.times + 1, m.arrived++;
    settle(m);
}

void wait_for_cluster() {
    ClusterMeeting &m = *self().cluster_meeting;
    if (self().arrived_for < m.times || self().arrived_for > m.times + 1) abort();    // without an arrival
    if (self().arrived_for == m.times) return;
    m.waiting.push_back(running);
    worker().fiber.leave();
}

void copy_later(std::function<void()> copy) {
    if (copies_wait) in_flight.push_back({running, 1u << in_flight.size() * 5 % 8, std::move(copy)});
    else copy();
}

Block::Block(unsigned threads, size_t shared_bytes)
    : memory(nullptr, free), warps((threads + 31) / 32, Meeting(32)),
      warpgroups((threads + 127) / 128, Meeting(128)), named(16, Meeting(128)), blocks(16, Meeting(threads)), all(threads), any(threads) {
    void *bytes = nullptr;
    if (posix_memalign(&bytes, 1024, shared_bytes) != 0) abort();
    memory.reset(static_cast<uint8_t *>(memset(bytes, 0xff, shared_bytes)));
}

bool launch(unsigned blocks, unsigned ranks, unsigned threads, size_t shared_bytes, unsigned seed, const std::function<void()> &kernel,
            Laggard laggard) {
    body = &kernel;
    for (unsigned first = 0; first < blocks; first += ranks) {
        std::vector<Block> cluster;
        for (unsigned rank = 0; rank < ranks; rank++) cluster.emplace_back(threads, shared_bytes);
        ClusterMeeting all{ranks * threads};
        std::vector<std::unique_ptr<Worker>> workers;
        for (unsigned i = 0; i < ranks * threads; i++) {
            auto w = std::make_unique<Worker>();
            w->thread = {i % threads}, w->block = {first + i / threads}, w->grid = {blocks};
            w->cluster_rank = i / threads, w->cluster = &cluster, w->cluster_meeting = &all;
            w->fiber.begin(enter);
            workers.push_back(std::move(w));
        }
        if (!run_all(workers, seed, laggard)) return false;
    }
    return true;
}

}  // namespace emulator

void __syncthreads() {
    ::emulator::Thread &t = ::emulator::self();
    ::emulator::meet(t.own().all, t.thread.x, nullptr, [](void **) {});
}

int __syncthreads_or(int predicate) {
    ::emulator::Thread &t = ::emulator::self();
    ::emulator::meet(t.own().all, t.thread.x, &predicate, [&t](void **all) {
        int any = 0;
        for (unsigned i = 0; i < t.own().all.expected; i++) any |= *static_cast<int *>(all[i]);
        for (unsigned i = 0; i < t.own().all.expected; i++) *static_cast<int *>(all[i]) = any;
    });
    return predicate;
}
