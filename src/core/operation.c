/* Structs of callers: which sizes are taken, and the fields that all of them share. */
#include "operation.h"

#include "status.h"

#define LARGEST_STRUCT 4096    /* of any later version. A size above it is no size, so that nothing behind it is read */

static size_t size_today(const fkdai_struct *s) { return s->sizes[s->count - 1]; }

/* Published, or of a later version whose fields are all at their default. */
static fkda_status check_size(const fkdai_struct *s, const char *argument, const void *given, size_t size)
{
    const size_t known = size_today(s);
    for (int i = 0; i < s->count; ++i)
        if (s->sizes[i] == size) return FKDA_OK;
    REQUIRE(size > known && size <= LARGEST_STRUCT && size % _Alignof(fkdai_desc) == 0, FKDA_ERR_STRUCT_SIZE,
            "%s.struct_size = %zu, but sizeof(%s) is %zu", argument, size, s->type, known);
    for (size_t i = known; i < size; ++i)
        REQUIRE(((const unsigned char *)given)[i] == 0, FKDA_ERR_STRUCT_SIZE,
                "%s.struct_size = %zu, and byte %zu is not 0, but this library knows %s up to byte %zu", argument, size, i, s->type, known);
    return FKDA_OK;
}

/* Copies what there is of a caller's struct; the rest is 0. */
static fkda_status widen(const fkdai_struct *s, const char *argument, const void *given, size_t size, void *to)
{
    const size_t known = size_today(s);
    if (size != known) TRY(check_size(s, argument, given, size));
    const size_t common = size < known ? size : known;
    memcpy(to, given, common);
    memset((char *)to + common, 0, known - common);
    memcpy(to, &known, sizeof known);
    return FKDA_OK;
}

static fkda_status check_head(const fkdai_head *h, uint32_t flags)
{
    REQUIRE((unsigned)h->backend < FKDA_BACKEND_COUNT, FKDA_ERR_BAD_VALUE, "desc.backend = %d is not an fkda_backend", (int)h->backend);
    REQUIRE((unsigned)h->memory <= FKDA_MEMORY_CUDA, FKDA_ERR_BAD_VALUE, "desc.memory = %d is not an fkda_memory", (int)h->memory);
    REQUIRE(h->device >= 0, FKDA_ERR_BAD_VALUE, "desc.device = %d is negative", (int)h->device);
    REQUIRE(h->threads >= 0, FKDA_ERR_BAD_VALUE, "desc.threads = %d is negative", (int)h->threads);
    REQUIRE((h->flags & ~flags) == 0, FKDA_ERR_BAD_VALUE, "desc.flags = 0x%x has bits that this library does not know", (unsigned)h->flags);
    REQUIRE(h->reserved == 0, FKDA_ERR_BAD_VALUE, "desc.reserved = %u, but it must be 0", (unsigned)h->reserved);
    return FKDA_OK;
}

fkda_status fkdai_resolve(const fkdai_operation *operation, const void *desc, fkdai_desc *resolved)
{
    size_t size;
    REQUIRE(desc != NULL, FKDA_ERR_NULL_POINTER, "desc is NULL");
    memcpy(&size, desc, sizeof size);
    TRY(widen(&operation->desc, "desc", desc, size, resolved));
    TRY(check_head(&resolved->head, operation->flags));
    return operation->resolve(resolved);
}

fkda_status fkdai_know_args(const fkdai_operation *operation, const void *args, fkdai_args *room, const void **known)
{
    size_t size;
    REQUIRE(args != NULL, FKDA_ERR_NULL_POINTER, "args is NULL");
    memcpy(&size, args, sizeof size);
    *known = size == size_today(&operation->args) ? args : room;
    return *known == args ? FKDA_OK : widen(&operation->args, "args", args, size, room);
}

void fkdai_hand_back(const fkdai_operation *operation, const fkdai_desc *desc, size_t struct_size, void *to)
{
    const size_t known = size_today(&operation->desc), common = struct_size < known ? struct_size : known;
    memcpy(to, desc, common);
    memset((char *)to + common, 0, struct_size - common);
    memcpy(to, &struct_size, sizeof struct_size);
}
