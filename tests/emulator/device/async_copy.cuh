// Host stand-in for src/cuda/device/async_copy.cuh: what is copied arrives with the wait for its group, and not before.
#pragma once
#include <deque>
#include <map>

#include "device/shared_access.cuh"

namespace fkdai {

struct AsyncCopies {
    std::vector<std::function<void()>> open;
    std::deque<std::vector<std::function<void()>>> closed;
};
inline AsyncCopies &async_copies() {
    static std::map<const emulator::Thread *, AsyncCopies> of_thread;
    return of_thread[&emulator::self()];
}

template <class T>
void copy_async(T *shared, const T *global) {
    async_copies().open.push_back([=] { *shared = *global; });
}
inline void close_copies() {
    AsyncCopies &copies = async_copies();
    copies.closed.push_back(std::move(copies.open));
    copies.open.clear();
}
template <int left>
void await_copies() {
    AsyncCopies &copies = async_copies();
    while (copies.closed.size() > static_cast<size_t>(left)) {
        for (const auto &copy : copies.closed.front()) copy();
        copies.closed.pop_front();
    }
}

}  // namespace fkdai
