// fiber.cpp: stacks, switches, and what AddressSanitizer wants to be told.
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__) || defined(FKDA_FIBERS_BY_UCONTEXT)
#include <ucontext.h>
#endif

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 256 * 1024;    // frames are wider
void announce_switch(void **fake_stack, const void *low, size_t bytes) { __sanitizer_start_switch_fiber(fake_stack, low, bytes); }
void announce_arrival(void *fake_stack, const void **low, size_t *bytes) { __sanitizer_finish_switch_fiber(fake_stack, low, bytes); }
void forget_frames(const char *stack) { __asan_unpoison_memory_region(stack, kStackBytes); }
void forget_own_frames() { __asan_handle_no_return(); }
#else
constexpr size_t kStackBytes = 64 * 1024;
void announce_switch(void **, const void *, size_t) {}
void announce_arrival(void *, const void **, size_t *) {}
void forget_frames(const char *) {}
void forget_own_frames() {}
#endif

// ---------------------------------------------------------------- a context: where an execution stopped

#if defined(__x86_64__) && !defined(FKDA_FIBERS_BY_UCONTEXT)
// Pushes the registers that a call must preserve, leaves the top of the stack in *from, and goes on where `to` stopped.
extern "C" void emulator_switch(void **from, void *to);
asm(R"(
.pushsection .text
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
.popsection
)");
void *scheduler_context = nullptr;
void switch_context(void **from, void *to) { emulator_switch(from, to); }
void *new_context(char *stack, void (*enter)()) {
    void **top = reinterpret_cast<void **>(stack + kStackBytes);
    *--top = nullptr;    // `enter` finds the stack as a call leaves it, 8 bytes off a multiple of 16
    *--top = reinterpret_cast<void *>(enter);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    return top;
}
void free_context(void *) {}
#else
void *scheduler_context = new ucontext_t;
void switch_context(void **from, void *to) { swapcontext(static_cast<ucontext_t *>(*from), static_cast<ucontext_t *>(to)); }
void *new_context(char *stack, void (*enter)()) {
    ucontext_t *const context = new ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = stack, context->uc_stack.ss_size = kStackBytes, context->uc_link = nullptr;
    makecontext(context, enter, 0);
    return context;
}
void free_context(void *context) { delete static_cast<ucontext_t *>(context); }
#endif

// ---------------------------------------------------------------- stacks

std::vector<char *> free_stacks;

char *take_stack() {
    if (!free_stacks.empty()) {
        char *const stack = free_stacks.back();
        free_stacks.pop_back();
        return stack;
    }
    const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void *const memory = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
        perror("emulator: a stack");
        abort();
    }
    return static_cast<char *>(memory) + guard;
}

const void *scheduler_low = nullptr;    // its stack, learnt from the first switch away from it
size_t scheduler_bytes = 0;
void (*entered)() = nullptr;

void enter_first() {
    announce_arrival(nullptr, &scheduler_low, &scheduler_bytes);
    entered();
}

}  // namespace

void Fiber::begin(void (*enter)()) {
    entered = enter;
    stack_ = take_stack();
    context_ = new_context(stack_, enter_first);
}

Fiber::~Fiber() {
    if (stack_ == nullptr) return;
    if (!has_ended_) forget_frames(stack_);
    free_stacks.push_back(stack_);
    free_context(context_);
}

void Fiber::resume() {
    void *fake_stack = nullptr;
    announce_switch(&fake_stack, stack_, kStackBytes);
    switch_context(&scheduler_context, context_);
    announce_arrival(fake_stack, nullptr, nullptr);
}

void Fiber::leave() {
    void *fake_stack = nullptr;
    announce_switch(&fake_stack, scheduler_low, scheduler_bytes);
    switch_context(&context_, scheduler_context);
    announce_arrival(fake_stack, &scheduler_low, &scheduler_bytes);
}

void Fiber::leave_for_good() {
    has_ended_ = true;
    forget_own_frames();
    announce_switch(nullptr, scheduler_low, scheduler_bytes);
    switch_context(&context_, scheduler_context);
    abort();    // nobody resumes it
}

}  // namespace emulator
