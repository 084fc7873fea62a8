/* A thin layer over cJSON, whose functions take NULL and do nothing when memory is out. */
#include "json_out.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "text.h"

void json_add_text(cJSON *object, const char *key, const char *text)
{
    char printable[4 * 4096];
    cJSON_AddStringToObject(object, key, text_printable(text, printable, sizeof printable));
}

/* Given to cJSON as text: its own has 17 digits where 15 do not come back as the same double, which no measurement is worth. */
void json_add_number(cJSON *object, const char *key, double value)
{
    char digits[32];
    if (!isfinite(value)) {
        cJSON_AddNullToObject(object, key);
        return;
    }
    if (value == floor(value) && fabs(value) < 0x1p53) snprintf(digits, sizeof digits, "%.0f", value);
    else snprintf(digits, sizeof digits, "%.7g", value);
    cJSON_AddRawToObject(object, key, digits);
}

void json_print_line(cJSON *object)
{
    char *const line = cJSON_PrintUnformatted(object);
    if (line != NULL) puts(line);
    cJSON_free(line);
    cJSON_Delete(object);
}
