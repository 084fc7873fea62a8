/* Prints the version of the library it runs with; fails unless header and library are of one version and a plan can be made. */
#include <flashkda.h>
#include <stdio.h>

int main(void)
{
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = 100, .H = 2, .K = 64, .V = 64, .scale = 0.125f};
    fkda_plan plan;
    char text[256];
    if (fkda_version() != 10000 * FKDA_VERSION_MAJOR + 100 * FKDA_VERSION_MINOR + FKDA_VERSION_PATCH) return 2;
    if (fkda_fwd_plan(&desc, &plan) != FKDA_OK) return 3;
    fkda_plan_describe(&plan, text, sizeof text);
    printf("flashkda %s, %s\n", fkda_version_string(), text);
    return 0;
}
