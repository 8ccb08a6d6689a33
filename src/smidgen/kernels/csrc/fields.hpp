// The fields of a structure that Python passes: Python compares them with its own declaration.
#pragma once
#include <cstddef>
#include <cstdint>

struct Field {
    const char *name;
    int64_t offset, size;
};

#define FIELD(type, name) {#name, offsetof(type, name), sizeof(type::name)}
