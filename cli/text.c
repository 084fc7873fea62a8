/* UTF-8 as RFC 3629 defines it, strict numbers, and numbers for people. */
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
