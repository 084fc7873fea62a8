/* What each backend owes. The rounding of bf16 results is undone before they are compared, so the bars are those of fp32. */
#include "harness.h"

#include "backend_bars.h"

/* Host memory only: a backend that reads CUDA memory has its own suite. */
static const struct { fkda_backend id; const accuracy_bar *bar; int takes_any_width, splits_bitwise; } all_bars[] = {
    {FKDA_BACKEND_CPU, &BAR(f32, any), 0, 1},
    {FKDA_BACKEND_REF, &BAR(f64, any), 1, 0},    /* its state is double inside */
};
enum { BARS_COUNT = sizeof all_bars / sizeof *all_bars };

static int is_64_or_128(int64_t width) { return width == 64 || width == 128; }

int bars_owe(const backend_bars *bars, const case_spec *spec)
{
    return bars->takes_any_width || (is_64_or_128(spec->K) && is_64_or_128(spec->V));
}

/* -------------------------------------------------------------- which of them run */

static const char *chosen_name;

void bars_choose(const char *name) { chosen_name = name; }

void bars_for_each(void (*test)(const backend_bars *bars))
{
    int ran = 0;
    for (int b = 0; b < BARS_COUNT; ++b) {
        const char *const name = fkda_backend_name(all_bars[b].id);
        if (chosen_name != NULL && strcmp(chosen_name, name) != 0) continue;
        char why[256] = "";
        if (fkda_backend_status(all_bars[b].id, why, sizeof why) != FKDA_OK) {
            if (chosen_name == NULL) fail_msg("%s is off: %s", name, why);
            print_message("%s is off: %s\n", name, why);
            skip();
        }
        const backend_bars bars = {all_bars[b].id, *all_bars[b].bar, all_bars[b].takes_any_width, all_bars[b].splits_bitwise};
        test(&bars);
        ++ran;
    }
    if (ran == 0) fail_msg("no backend called %s", chosen_name);
}
