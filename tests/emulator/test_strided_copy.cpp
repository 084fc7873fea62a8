// The copying kernels, emulated, against plain loops: random shapes, strides, alignments, slots, masks and marks. Both sides lie between pages that
// nobody may touch, and every byte is compared.
#include "emulator.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "counter_rng.h"
#include "guarded.h"
#include "plain_copies.h"
#include "strided_copy/strided_walk.cuh"

namespace {

uint64_t stream, drawn = 0;
int64_t below(int64_t n) { return rng_below(stream, drawn++, n); }
int64_t one_of(std::initializer_list<int64_t> values) { return values.begin()[below(static_cast<int64_t>(values.size()))]; }

struct Memory {
    guarded at;
    explicit Memory(int64_t bytes, int64_t align)
        : at(guarded_alloc(static_cast<size_t>(bytes), static_cast<size_t>(align), below(2) ? GUARD_AT_END : GUARD_AT_START, 0xa5)) {
        for (int64_t i = 0; i < bytes; i++) at.data[i] = static_cast<uint8_t>(rng_bits(stream, drawn) >> (i % 57)), drawn += i % 57 == 56;
    }
    ~Memory() { guarded_free(&at); }
    Memory(const Memory &) = delete;
    char *data() const { return reinterpret_cast<char *>(at.data); }
    std::vector<char> bytes() const { return {data(), data() + at.bytes}; }
    void put(const std::vector<char> &from) const { if (!from.empty()) memcpy(data(), from.data(), from.size()); }
};

// One copy and the memory that it needs.
struct Problem {
    fkdai_copy copy{};
    std::vector<int64_t> wide;
    std::vector<int32_t> narrow;
    std::vector<uint8_t> mask;
    int64_t end = 0, element = one_of({2, 2, 4});
    std::unique_ptr<Memory> strided, packed;

    int64_t rows() const { return copy.size[0] * copy.size[1] * copy.size[2]; }

    void index(fkdai_copy_array &to, const std::vector<int64_t> &values) {
        wide = values, narrow.assign(values.begin(), values.end());
        to.is_64bit = static_cast<int>(below(2));
        to.data = to.is_64bit ? static_cast<const void *>(wide.data()) : narrow.data();
    }
    // Axes in any order of their strides, which are multiples of a unit.
    void lay_out(int64_t slots) {
        const int64_t unit = element * one_of({1, 1, 2, 4, 8}), places[3] = {slots > 0 ? slots : copy.size[0], copy.size[1], copy.size[2]};
        int order[3] = {2, 1, 0};
        if (slots == 0) std::swap(order[0], order[below(3)]), std::swap(order[1], order[1 + below(2)]);
        int64_t step = 256, span = 0;
        for (const int axis : order) {
            copy.stride[axis] = (step + unit - 1) / unit * unit + unit * below(3);
            span += copy.stride[axis] * (places[axis] - 1), step = copy.stride[axis] * (places[axis] > 0 ? places[axis] : 1);
        }
        strided = std::make_unique<Memory>(span + 256, element);
        packed = std::make_unique<Memory>(rows() * 256, 256);
        copy.strided = strided->data(), copy.packed = packed->data();
    }
    void be_tensor(bool is_out) {
        copy.size[0] = one_of({1, 1, 2, 3}), copy.size[1] = one_of({1, 2, 5, 33, 70}), copy.size[2] = one_of({1, 2, 3, 5, 12});
        const bool is_packed = is_out && below(2);
        if (is_packed) copy.size[0] = 1, end = below(copy.size[1] + 1), index(copy.end, {end});
        lay_out(0);
        if (is_packed && end < copy.size[1] && below(4) > 0) mark(rows() - 1);
    }
    void be_states(bool is_out) {
        copy.size[0] = one_of({1, 2, 3, 7}), copy.size[1] = 1, copy.size[2] = one_of({4, 9, 64});
        const int64_t slots = below(2) ? copy.size[0] + below(3) : 0;
        if (slots > 0) {
            copy.slot_count = slots, copy.first_slot = below(2);
            std::vector<int64_t> all;
            for (int64_t i = 0; i < copy.size[0]; i++)    // no slot is written twice
                all.push_back(below(4) > 0 ? (i + end) % slots : one_of({-1, is_out ? -1 : 0, slots, INT32_MAX, INT32_MIN}));
            index(copy.slots, all);
        }
        lay_out(slots);
        for (int64_t i = 0; i < copy.size[0]; i++) mask.push_back(static_cast<uint8_t>(below(3)));
        if (!is_out && below(2)) copy.mask = mask.data();
        if (is_out && below(2)) {
            copy.is_marked = 1;
            for (int64_t i = 0; i < copy.size[0]; i++) if (below(2)) mark(i * copy.size[2]);
        }
    }
    void mark(int64_t row) const {
        const uint32_t word = FKDAI_COPY_UNWRITTEN;
        memcpy(copy.packed + row * 256, &word, sizeof word);
    }
};

bool check(int draw) {
    const bool is_out = draw % 2;
    uint32_t status = 0;
    fkdai_copies all{};
    all.status = below(4) ? &status : nullptr, all.broken_slot = 2;
    std::vector<std::unique_ptr<Problem>> problems;
    for (int64_t count = below(FKDAI_COPY_MOST + 1); count > 0; count--) {
        problems.push_back(std::make_unique<Problem>());
        if (below(2)) problems.back()->be_tensor(is_out);
        else problems.back()->be_states(is_out);
        all.copy[all.count++] = problems.back()->copy;
    }
    Memory marked(16 * 4096, 256);
    for (; !is_out && all.mark_count < below(3); all.mark_count++)
        all.marks[all.mark_count] = {marked.data() + 4096 * all.mark_count, below(15), 4 * one_of({1, 64})};

    std::vector<std::vector<char>> before, want;
    const auto each = [&](const auto &act) { act(marked); for (auto &p : problems) act(*p->strided), act(*p->packed); };
    each([&](const Memory &m) { before.push_back(m.bytes()); });
    is_out ? plain_copy_out(&all) : plain_copy_in(&all);
    const uint32_t want_status = status;
    each([&](const Memory &m) { want.push_back(m.bytes()); });
    size_t i = 0;
    each([&](const Memory &m) { m.put(before[i++]); });
    for (auto &p : problems) guarded_make_readonly(is_out ? &p->packed->at : &p->strided->at);
    status = 0;
    bool good = (is_out ? fkdai_copy_out(&all, nullptr) : fkdai_copy_in(&all, nullptr)) == 0 && status == want_status;
    for (auto &p : problems) guarded_make_writable(is_out ? &p->packed->at : &p->strided->at);
    i = 0;
    each([&](const Memory &m) { good &= m.bytes() == want[i++] && guarded_slack_is_intact(&m.at); });
    if (!good) {
        printf("FAIL %s, draw %d:", is_out ? "out" : "in", draw);
        for (auto &p : problems)
            printf(" [%lld %lld %lld] by %lld %lld %lld from %p;", static_cast<long long>(p->copy.size[0]), static_cast<long long>(p->copy.size[1]),
                   static_cast<long long>(p->copy.size[2]), static_cast<long long>(p->copy.stride[0]), static_cast<long long>(p->copy.stride[1]),
                   static_cast<long long>(p->copy.stride[2]), static_cast<void *>(p->copy.strided));
        printf("\n");
    }
    return good;
}

// Where a row lies, of tensors that no memory holds: a walk does not look there.
bool check_walks() {
    using namespace fkdai::strided_copy;
    for (int draw = 0; draw < 10000; draw++) {
        fkdai_copies all{};
        fkdai_copy &c = all.copy[0];
        const int64_t most[3] = {5, int64_t{1} << (draw % 2 ? 36 : 10), 200};
        for (int axis = 0; axis < 3; axis++) c.size[axis] = 1 + below(most[axis]), c.stride[axis] = below(int64_t{1} << 20);
        const int64_t rows = c.size[0] * c.size[1] * c.size[2], first = below(rows);
        Walk<Direction::In> walk(all, c, first);
        for (int64_t row = first; row < first + 9 && row < rows; row++) {
            const int64_t line = row / c.size[2], want = line / c.size[1] * c.stride[0] + line % c.size[1] * c.stride[1] + row % c.size[2] * c.stride[2];
            const Row at = walk.next();
            if (at.what != What::Copy || reinterpret_cast<intptr_t>(at.at) != want) return false;
        }
    }
    return true;
}

// Units are what addresses and strides allow, and the blocks of a long copy take turns.
bool check_grids() {
    const auto unit = [](uintptr_t address, int64_t outer, int64_t middle, int64_t inner, int64_t B, int64_t T, int64_t H) {
        fkdai_copies all{};
        all.count = 1, all.copy[0].strided = reinterpret_cast<char *>(address);
        const int64_t size[3] = {B, T, H}, stride[3] = {outer, middle, inner};
        memcpy(all.copy[0].size, size, sizeof size), memcpy(all.copy[0].stride, stride, sizeof stride);
        return fkdai_copy_make_grid(&all);
    };
    return unit(0x1000, 4096, 512, 256, 2, 2, 2).unit[0] == 16 && unit(0x1002, 4096, 512, 256, 2, 2, 2).unit[0] == 2 &&
           unit(0x1000, 4096, 516, 256, 2, 2, 2).unit[0] == 4 && unit(0x1000, 4096, 516, 256, 2, 1, 2).unit[0] == 16 &&
           unit(0x1008, 4096, 512, 256, 1, 1, 1).unit[0] == 8 && unit(0x1000, 4098, 512, 256, 1, 7, 7).unit[0] == 16 &&
           unit(0x1000, 4096, 512, 256, 1, 64, 1).blocks == 1 && unit(0x1000, 4096, 512, 256, 1, 65, 1).blocks == 2 &&
           unit(0x1000, 0, int64_t{1} << 40, 256, 1, int64_t{1} << 30, 96).blocks == 1 << 24;
}

}  // namespace

int main() {
    rng_seed();
    stream = rng_stream("strided_copy", 0);
    int ran = 2, failed = !check_grids() + !check_walks();
    if (failed) printf("FAIL grids or walks\n");
    for (int draw = 0; draw < 400; draw++) ran++, failed += !check(draw);
    printf("test_strided_copy: ran %d, failed %d\n", ran, failed);
    return failed > 0;
}
