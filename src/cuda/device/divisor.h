/* Division by a number that a launch does not change, for host and device. */
#ifndef FKDAI_DIVISOR_H
#define FKDAI_DIVISOR_H

#include <stdint.h>

/* x / y for x < 2^31 in three instructions: (x + high half of x factor) >> shift. */
typedef struct fkdai_divisor {
    uint32_t factor;
    int shift;
} fkdai_divisor;

static inline fkdai_divisor fkdai_make_divisor(uint32_t y)    /* 1 <= y <= 2^31 */
{
    int shift = 0;
    while (UINT64_C(1) << shift < y) ++shift;
    const fkdai_divisor divisor = {(uint32_t)(((UINT64_C(1) << 32) * ((UINT64_C(1) << shift) - y)) / y + 1), shift};
    return divisor;
}

#endif
