// fiber.h: an execution of its own on a stack of its own, switched to and from by hand.
//
// On x86-64 a switch is a dozen instructions; elsewhere it is swapcontext, which makes two system calls. AddressSanitizer is told of each.
#pragma once

namespace emulator {

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber &) = delete;
    ~Fiber();
    void begin(void (*enter)());         // the first resume() calls it; it ends by leave_for_good()
    void resume();                       // from the scheduler: returns when the fiber leaves
    void leave();                        // from the fiber: returns when it is resumed
    [[noreturn]] void leave_for_good();

private:
    char *stack_ = nullptr;              // its low end, above a guard page; used again by later fibers
    void *context_ = nullptr;            // where it stopped
    bool has_ended_ = false;
};

}  // namespace emulator
