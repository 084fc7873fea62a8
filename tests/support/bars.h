/* tests/bars.def as constants, BAR(bf16, any).out; and which class a case is in. */
#ifndef FKDA_TEST_BARS_H
#define FKDA_TEST_BARS_H

#include "case_spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct accuracy_bar {
    double out, state;    /* of M1 */
    double m2;            /* M2 of out, in units of the bar of its M1 */
} accuracy_bar;

#define FKDA_BAR(arithmetic, class, out, state, m2, why) static const accuracy_bar fkda_bar_##arithmetic##_##class = {out, state, m2};
#define FKDA_BAR_NUMBER(name, value, why)
#include "bars.def"
#undef FKDA_BAR
#undef FKDA_BAR_NUMBER
#define BAR(arithmetic, class) (fkda_bar_##arithmetic##_##class)

/* What a kernel with bf16 operands owes a case. */
accuracy_bar bar_bf16_of(const case_spec *spec);

#ifdef __cplusplus
}
#endif
#endif
