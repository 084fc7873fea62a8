/* A thin layer over cJSON, whose functions take NULL and do nothing when memory is out. */
#include "json_out.h"

#include <cjson/cJSON.h>
#include <stdio.h>

#include "text.h"

void json_add_text(cJSON *object, const char *key, const char *text)
{
    char printable[4 * 4096];
    cJSON_AddStringToObject(object, key, text_printable(text, printable, sizeof printable));
}

void json_print_line(cJSON *object)
{
    char *const line = cJSON_PrintUnformatted(object);
    if (line != NULL) puts(line);
    cJSON_free(line);
    cJSON_Delete(object);
}
