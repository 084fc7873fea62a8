// oracle_values.h: the oracle on the host, over the values of a case.
#pragma once

#include <vector>

#include "input_values.h"
#include "kda_oracle.h"

namespace oracle {

struct Answer {
    std::vector<double> out;      // [rows,HV,V]
    std::vector<double> state;    // [N,HV,V,K]
};

inline Rule rule_of(const case_spec &s) {
    return {static_cast<fkda_gate>(s.gate), static_cast<fkda_beta>(s.beta), static_cast<fkda_qk_norm>(s.norm), s.multiplier == 2 ? 2.0 : 1.0,
            static_cast<double>(static_cast<float>(s.lower_bound)), static_cast<double>(static_cast<float>(s.scale))};
}

// One token as the recurrence wants it.
struct Token {
    std::vector<double> q, k, a;    // [K]
    double b;

    Token(const case_spec &s, const input_values &x, const Rule &rule, int64_t row, int64_t hv) : q(s.K), k(s.K), a(s.K) {
        const int64_t key = (row * s.H + hv / (s.HV / s.H)) * s.K, value = row * s.HV + hv;
        double q2 = 0, k2 = 0;
        for (int64_t c = 0; c < s.K; c++) {
            q[c] = x.q[key + c], k[c] = x.k[key + c];
            q2 += q[c] * q[c], k2 += k[c] * k[c];
            a[c] = decay(rule, x.g[value * s.K + c], s.A_log == FKDA_NONE ? 0 : x.A_log[hv], s.dt_bias == FKDA_NONE ? 0 : x.dt_bias[hv * s.K + c]);
        }
        for (int64_t c = 0; c < s.K; c++) q[c] *= normaliser(rule, q2), k[c] *= normaliser(rule, k2);
        b = step_size(rule, x.beta[value]);
    }
};

inline Answer answer(const case_spec &s, const input_values &x) {
    const Rule rule = rule_of(s);
    Answer all{std::vector<double>(static_cast<size_t>(case_rows(&s) * s.HV * s.V)), std::vector<double>(static_cast<size_t>(s.N * case_state_elems(&s)))};
    for (int64_t n = 0; n < s.N; n++)
        for (int64_t hv = 0; hv < s.HV; hv++) {
            const int64_t at = (n * s.HV + hv) * s.K * s.V;
            double *const S = all.state.data() + at;    // [V,K]
            for (int64_t i = 0; i < s.K * s.V; i++) S[i] = s.initial == FKDA_NONE ? 0 : x.initial[at + i % s.K * s.V + i / s.K];
            for (int64_t row = s.bounds[n]; row < s.bounds[n + 1]; row++) {
                const Token token(s, x, rule, row, hv);
                for (int64_t j = 0; j < s.V; j++) {
                    const double predicted = decay_slice(S + j * s.K, token.a.data(), token.k.data(), s.K);
                    const double u = token.b * (x.v[(row * s.HV + hv) * s.V + j] - predicted);
                    all.out[(row * s.HV + hv) * s.V + j] = rule.scale * update_slice(S + j * s.K, token.k.data(), token.q.data(), u, s.K);
                }
            }
        }
    return all;
}

}  // namespace oracle
