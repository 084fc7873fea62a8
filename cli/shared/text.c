/* UTF-8 as RFC 3629 defines it, strict numbers, numbers for people, and nearest words. */
#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t text_utf8_length(const char *text, size_t left)
{
    const unsigned char *const s = (const unsigned char *)text;
    if (left == 0) return 0;
    if (s[0] < 0x80) return 1;
    const size_t length = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : s[0] >= 0xe0 && s[0] <= 0xef ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; ++i)
        if ((s[i] & 0xc0) != 0x80) return 0;
    const int is_overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const int is_surrogate = s[0] == 0xed && s[1] > 0x9f;
    const int is_too_large = s[0] == 0xf4 && s[1] > 0x8f;
    return is_overlong || is_surrogate || is_too_large ? 0 : length;
}

const char *text_printable(const char *text, char *to, size_t size)
{
    size_t left = strlen(text), used = 0;
    while (left > 0) {
        size_t length = text_utf8_length(text, left);
        const int is_control = (unsigned char)*text < 0x20 || *text == 0x7f;
        const size_t needed = length == 0 || is_control ? 4 : length;
        if (used + needed + 1 > size) break;
        if (needed == length) memcpy(to + used, text, length);
        else snprintf(to + used, 5, "\\x%02x", (unsigned)(unsigned char)*text);
        used += needed;
        if (length == 0) length = 1;
        text += length;
        left -= length;
    }
    to[used] = 0;
    return to;
}

const char *text_grouped(double value, char *to)
{
    char digits[TEXT_NUMBER_BYTES];
    if (!(value >= 0) || value >= 1e18) {
        if (isnan(value)) snprintf(to, TEXT_NUMBER_BYTES, "-");
        else snprintf(to, TEXT_NUMBER_BYTES, "%.3g", value);
        return to;
    }
    const int count = snprintf(digits, sizeof digits, "%.0f", value);
    int used = 0;
    for (int i = 0; i < count; ++i) {
        if (i > 0 && (count - i) % 3 == 0) to[used++] = ',';
        to[used++] = digits[i];
    }
    to[used] = 0;
    return to;
}

const char *text_duration(double ms, char *to)
{
    if (isnan(ms)) snprintf(to, TEXT_NUMBER_BYTES, "-");
    else if (ms < 1) snprintf(to, TEXT_NUMBER_BYTES, "%.0f us", 1e3 * ms);
    else if (ms < 1000) snprintf(to, TEXT_NUMBER_BYTES, "%.*f ms", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
    else snprintf(to, TEXT_NUMBER_BYTES, "%.2f s", 1e-3 * ms);
    return to;
}

const char *text_bytes(double bytes, char *to)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    int unit = 0;
    for (; bytes >= 1024 && unit < 6; ++unit) bytes /= 1024;
    snprintf(to, TEXT_NUMBER_BYTES, "%.*f %s", unit > 0, bytes, units[unit]);
    return to;
}

enum { MAX_WORD = 31 };

static int least(int a, int b, int c)
{
    const int ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Insertions, deletions, exchanges and swaps of neighbours from a to b. */
static int edits(const char *a, const char *b)
{
    int d[MAX_WORD + 1][MAX_WORD + 1];
    const int m = (int)strlen(a), n = (int)strlen(b);
    for (int i = 0; i <= m; ++i) d[i][0] = i;
    for (int j = 0; j <= n; ++j) d[0][j] = j;
    for (int i = 1; i <= m; ++i)
        for (int j = 1; j <= n; ++j) {
            d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            const int is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (is_swap && d[i - 2][j - 2] + 1 < d[i][j]) d[i][j] = d[i - 2][j - 2] + 1;
        }
    return d[m][n];
}

const char *text_nearest(const char *word, const char *const *candidates)
{
    const size_t length = strlen(word), dashes = strspn(word, "-");
    if (length > MAX_WORD || length < dashes + 2) return NULL;
    int fewest = 1 + (int)(length - dashes) / 3;    /* more edits than that is another word */
    const char *nearest = NULL;
    for (; *candidates != NULL; ++candidates) {
        if (strlen(*candidates) > MAX_WORD) continue;
        const int count = strncmp(*candidates, word, length) == 0 ? 0 : edits(word, *candidates);    /* its beginning is nearest of all */
        if (count >= fewest) continue;
        fewest = count;
        nearest = *candidates;
    }
    return nearest;
}

int text_to_integer(const char *text, int64_t *value)
{
    const char *const digits = *text == '-' ? text + 1 : text;
    if (*digits == 0 || strspn(digits, "0123456789") != strlen(digits)) return 0;
    errno = 0;
    const long long read = strtoll(text, NULL, 10);
    if (errno != 0) return 0;
    *value = read;
    return 1;
}

int text_to_real(const char *text, double *value)
{
    if (*text == 0 || strspn(text, "0123456789+-.eE") != strlen(text)) return 0;    /* no spaces, no inf, no nan, no hexadecimal */
    char *end;
    const double read = strtod(text, &end);
    if (*end != 0 || !isfinite(read)) return 0;
    *value = read;
    return 1;
}
