// The triangular solve of the prefill kernel, emulated, against substitution in double.
//
//     T = (I + Diag(beta) A)^-1 Diag(beta)      32 x 32, A strictly lower
#include <cstdio>
#include <random>

#include "device/tril_solve.cuh"

namespace {

constexpr int kSize = 32, kPitch = 52;
int ran = 0, failed = 0;

struct Problem {
    double a[kSize][kSize] = {}, beta[kSize];
};

// T in double, by substitution: column c of (I + Diag(beta) A) Z = I, times beta_c.
void solve(const Problem &p, double (&t)[kSize][kSize]) {
    for (int c = 0; c < kSize; c++)
        for (int i = 0; i < kSize; i++) {
            double sum = 0;
            for (int j = 0; j < i; j++) sum += p.a[i][j] * t[j][c] / p.beta[c];
            t[i][c] = ((i == c) - p.beta[i] * sum) * p.beta[c];
        }
}

void solve_emulated(const Problem &p, double (&t)[kSize][kSize]) {
    alignas(16) static float akk[16][kPitch], beta[kSize];
    alignas(16) static uint8_t tile[kSize * 64];
    memset(akk, 0xff, sizeof akk), memset(tile, 0, sizeof tile);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            akk[i][j] = static_cast<float>(p.a[16 + i][j]);
            // above the diagonal lies what the products leave there
            akk[i][16 + j] = j < i ? static_cast<float>(p.a[16 + i][16 + j]) : INFINITY;
            akk[i][32 + j] = j < i ? static_cast<float>(p.a[i][j]) : NAN;
        }
    for (int i = 0; i < kSize; i++) beta[i] = static_cast<float>(p.beta[i]);
    emulator::launch(1, 1, 32, 1024, 0, [] { fkdai::TrilSolve<kPitch>{akk, tile, beta, emulator::self().lane()}.run(); });
    for (int j = 0; j < kSize; j++)
        for (int i = 0; i < kSize; i++) {
            uint16_t bits;
            memcpy(&bits, tile + j * 64 + (((i / 8) ^ (j / 2 % 4)) * 16) + i % 8 * 2, 2);
            t[i][j] = fkdai::low_f16(bits);
        }
}

// Each element within one rounding to fp16, and `slack` of the largest beside it.
void check(const char *name, const Problem &p, double slack) {
    double want[kSize][kSize], got[kSize][kSize], largest = 0, worst = 0;
    solve(p, want), solve_emulated(p, got);
    for (auto &row : want) for (const double x : row) largest = fmax(largest, fabs(x));
    for (int i = 0; i < kSize; i++)
        for (int j = 0; j < kSize; j++) {
            const double excess = fabs(got[i][j] - want[i][j]) - fabs(want[i][j]) / 2048;  // half a unit of 11 bits
            if (!(excess <= worst)) worst = excess;
        }
    const bool good = worst <= slack * largest;
    ran++, failed += !good;
    printf("%s %-40s beyond a rounding %.1e, largest %.2g\n", good ? "ok  " : "FAIL", name, worst, largest);
}

}  // namespace

int main() {
    std::mt19937_64 random(std::random_device{}());
    std::uniform_real_distribution<double> uniform(0, 1);
    Problem p;
    // Identical keys that never decay: the inverse is 1 on the diagonal and -1 below it; powers of A reach 3e8.
    for (int i = 0; i < kSize; i++) {
        p.beta[i] = 1;
        for (int j = 0; j < i; j++) p.a[i][j] = 1;
    }
    check("identical keys, exact", p, 0);
    // Betas and scores far apart: operands of the tensor cores in fp16 keep them to 2^-24, as T itself.
    static const char *const kinds[] = {"nearly parallel keys", "random", "betas far apart", "gates that decay much"};
    for (int draw = 0; draw < 40; draw++) {
        const int kind = draw % 4;
        for (int i = 0; i < kSize; i++) {
            p.beta[i] = static_cast<float>(kind == 2 ? exp2(-20 * uniform(random)) : uniform(random));
            for (int j = 0; j < i; j++) {
                const double size = kind == 3 ? exp2(-uniform(random) * (i - j)) : 1;
                p.a[i][j] = static_cast<float>(kind == 0 ? 1 - 0.1 * uniform(random) : size * (2 * uniform(random) - 1));
            }
        }
        check(kinds[kind], p, 2e-6);
    }
    printf("test_prefill_solve: ran %d, failed %d\n", ran, failed);
    return failed > 0;
}
