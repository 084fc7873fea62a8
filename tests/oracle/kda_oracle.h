// kda_oracle.h: what KDA means, in float64, in pieces that run on the host and on the device. Shares nothing with src/.
//
//     q^ = q / sqrt(|q|^2 + 1e-6)   k^ = k / sqrt(|k|^2 + 1e-6)            (or q, k as they are)
//     b = m sigmoid(beta)                                                  (or m beta)
//     log a = lower_bound sigmoid(e^A_log (g + dt_bias))                   bounded
//             -e^A_log softplus(g + dt_bias)                               softplus
//             g                                                            precomputed
//     S <- Diag(a) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^
//
// Who runs a token splits S [K,V] into slices of one value channel: oracle_values.h on the host, tests/gpu/gpu_oracle.cuh on the device.
#pragma once

#include <math.h>
#include <stdint.h>

#include "flashkda.h"

#ifdef __CUDACC__
#define ORACLE_FUNCTION __host__ __device__ inline
#else
#define ORACLE_FUNCTION inline
#endif

namespace oracle {

struct Rule {
    fkda_gate gate;
    fkda_beta beta;
    fkda_qk_norm norm;
    double multiplier;      // m
    double lower_bound, scale;
};

ORACLE_FUNCTION double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
ORACLE_FUNCTION double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

// a of one channel. Absent parameters are 0. log a is held in [-750, 0], where e^-750 is 0, and A_log below 700; NaN stays NaN.
ORACLE_FUNCTION double decay(const Rule &rule, double g, double A_log, double dt_bias) {
    const double rate = exp(A_log > 700 ? 700 : A_log), x = g + dt_bias;
    const double log_decay = rule.gate == FKDA_GATE_BOUNDED    ? rule.lower_bound * sigmoid(rate * x)
                             : rule.gate == FKDA_GATE_SOFTPLUS ? -rate * softplus(x)
                                                               : g;
    return log_decay > 0 ? 1 : log_decay < -750 ? 0 : exp(log_decay);
}

// b of a token.
ORACLE_FUNCTION double step_size(const Rule &rule, double beta) {
    return rule.multiplier * (rule.beta == FKDA_BETA_LOGIT ? sigmoid(beta) : beta);
}

// What a query or key is multiplied by; squares: its |x|^2.
ORACLE_FUNCTION double normaliser(const Rule &rule, double squares) { return rule.norm == FKDA_QK_NORM_L2 ? 1 / sqrt(squares + 1e-6) : 1; }

// A slice of one value channel of S, `count` key channels of it: S <- Diag(a) S; returns its part of S^T k^.
ORACLE_FUNCTION double decay_slice(double *S, const double *a, const double *k, int64_t count) {
    double sum = 0;
    for (int64_t c = 0; c < count; c++) {
        S[c] *= a[c];
        sum += S[c] * k[c];
    }
    return sum;
}

// S <- S + k^ u; returns the slice's part of S^T q^.
ORACLE_FUNCTION double update_slice(double *S, const double *k, const double *q, double u, int64_t count) {
    double sum = 0;
    for (int64_t c = 0; c < count; c++) {
        S[c] += k[c] * u;
        sum += S[c] * q[c];
    }
    return sum;
}

}  // namespace oracle
