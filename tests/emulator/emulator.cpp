// emulator.cpp: fibers, meetings, and the cluster's shared memory.
#include "emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>

namespace emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr uint32_t kRankShift = 24;
enum MeetingKey : int { kWarpMeeting = 100, kWarpgroupMeeting = 200, kBlockMeeting = 300 };

struct Fiber {
    Thread thread;
    ucontext_t context;
    std::vector<char> stack;
    std::function<bool()> ready;
    bool done = false;
};

ucontext_t scheduler;
Fiber *running = nullptr;
const std::function<void()> *body = nullptr;

struct Copy {
    Fiber *by;
    unsigned patience;   // rounds of the scheduler that it takes on average
    std::function<void()> happen;
};
std::vector<Copy> in_flight;
bool copies_wait = false;

void finish_copy(size_t i) {
    const Copy copy = std::move(in_flight[i]);
    in_flight.erase(in_flight.begin() + static_cast<ptrdiff_t>(i));
    running = copy.by;
    copy.happen();
}

void enter() {
    (*body)();
    running->done = true;
    Meeting &cluster = *running->thread.cluster_meeting;   // it waits for those who have not ended
    cluster.expected--, cluster.settle();
    swapcontext(&running->context, &scheduler);
}

constexpr unsigned kLate = 100;
bool is_late(const Thread &t, Laggard laggard) {
    return t.warp() == laggard.warp && static_cast<int>(t.cluster_rank) == laggard.rank && t.lane() >= 4;
}

bool run_all(std::vector<std::unique_ptr<Fiber>> &fibers, unsigned seed, Laggard laggard) {
    std::mt19937 random(seed);
    std::vector<size_t> order(fibers.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    size_t left = fibers.size();
    copies_wait = seed != 0;
    while (left > 0 || !in_flight.empty()) {
        bool moved = false, held_back = false;
        for (size_t i = in_flight.size(); i-- > 0;)
            if (random() % in_flight[i].patience == 0) finish_copy(i), moved = true;
        if (seed != 0) std::shuffle(order.begin(), order.end(), random);
        for (size_t i : order) {
            Fiber &fiber = *fibers[i];
            if (fiber.done || (fiber.ready && !fiber.ready())) continue;
            if (is_late(fiber.thread, laggard) && random() % kLate != 0) {
                held_back = true;
                continue;
            }
            fiber.ready = nullptr;
            running = &fiber;
            swapcontext(&scheduler, &fiber.context);
            moved = true;
            left -= fiber.done;
        }
        if (moved || held_back || !in_flight.empty()) continue;
        printf("deadlock: waiting warps");
        for (auto &fiber : fibers)
            if (!fiber->done && fiber->thread.lane() == 0) printf(" %u/%d", fiber->thread.block.x, fiber->thread.warp());
        printf("\n");
        return false;
    }
    return true;
}

}  // namespace

Thread &self() { return running->thread; }

void block_until(std::function<bool()> ready) {
    if (ready()) return;
    running->ready = std::move(ready);
    swapcontext(&running->context, &scheduler);
}

void copy_later(std::function<void()> copy) {
    if (copies_wait) in_flight.push_back({running, 1u << in_flight.size() * 5 % 8, std::move(copy)});
    else copy();
}

void meet(Meeting &meeting, unsigned size, unsigned index, void *bring, const std::function<void(void **)> &last) {
    const unsigned generation = meeting.generation;
    meeting.brought[index] = bring;
    if (++meeting.arrived == size) {
        last(meeting.brought);
        meeting.arrived = 0, meeting.generation++;
    } else {
        block_until([&meeting, generation] { return meeting.generation != generation; });
    }
}

void meet_warp(void *bring, const std::function<void(void **)> &last) {
    Thread &t = self();
    meet(t.own().meetings[kWarpMeeting + t.warp()], 32, static_cast<unsigned>(t.lane()), bring, last);
}

void meet_warpgroup(void *bring, const std::function<void(void **)> &last) {
    Thread &t = self();
    meet(t.own().meetings[kWarpgroupMeeting + t.warp() / 4], 128, t.thread.x % 128, bring, last);
}

uint8_t *shared_pointer(uint32_t address) {
    return (*self().cluster)[address >> kRankShift].base + (address & ((1u << kRankShift) - 1));
}

Mbarrier &mbarrier(uint32_t address) {
    return (*self().cluster)[address >> kRankShift].barriers[address & ((1u << kRankShift) - 1)];
}

bool launch(unsigned blocks, unsigned ranks, unsigned threads, size_t shared_bytes, unsigned seed, const std::function<void()> &kernel,
            Laggard laggard) {
    body = &kernel;
    for (unsigned first = 0; first < blocks; first += ranks) {
        std::vector<Block> cluster(ranks);
        Meeting all;
        all.expected = ranks * threads;
        std::vector<std::unique_ptr<Fiber>> fibers;
        for (unsigned rank = 0; rank < ranks; rank++) {
            cluster[rank].memory.assign(shared_bytes + 1024, 0xff);
            cluster[rank].base = cluster[rank].memory.data() + (-reinterpret_cast<uintptr_t>(cluster[rank].memory.data()) & 1023);
            cluster[rank].threads = threads;
            for (unsigned t = 0; t < threads; t++) {
                auto fiber = std::make_unique<Fiber>();
                fiber->thread = {{t}, {first + rank}, rank, &cluster, &all, {blocks}};
                fiber->stack.resize(kStackBytes);
                getcontext(&fiber->context);
                fiber->context.uc_stack.ss_sp = fiber->stack.data();
                fiber->context.uc_stack.ss_size = kStackBytes;
                fiber->context.uc_link = &scheduler;
                makecontext(&fiber->context, enter, 0);
                fibers.push_back(std::move(fiber));
            }
        }
        if (!run_all(fibers, seed, laggard)) return false;
    }
    return true;
}

}  // namespace emulator

void __syncthreads() {
    ::emulator::Thread &t = ::emulator::self();
    ::emulator::meet(t.own().meetings[::emulator::kBlockMeeting], t.own().threads, t.thread.x, nullptr, [](void **) {});
}

int __syncthreads_or(int predicate) {
    ::emulator::Thread &t = ::emulator::self();
    const unsigned threads = t.own().threads;
    ::emulator::meet(t.own().meetings[::emulator::kBlockMeeting], threads, t.thread.x, &predicate, [threads](void **all) {
        int any = 0;
        for (unsigned i = 0; i < threads; i++) any |= *static_cast<int *>(all[i]);
        for (unsigned i = 0; i < threads; i++) *static_cast<int *>(all[i]) = any;
    });
    return predicate;
}
