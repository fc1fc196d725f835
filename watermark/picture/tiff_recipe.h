// How an original TIFF was written, kept in the sealed part of its marked copy: the bytes of
// directories that marking changes, and how strips and tiles were encoded.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"
#include "watermark/picture/tiff_codec.h"
#include "watermark/picture/tiff_structure.h"

namespace datacloud::watermark {

struct TiffPageRecipe {
  uint8_t library = 0, level = 0;  // of TiffEncoding
  uint16_t padding = 0;            // every sample of tiles outside of the page
};

struct TiffRecipe {
  uint64_t file_bytes = 0;
  Bytes rest;  // SHA-256 of all bytes but those of strips and tiles
  std::vector<Patch> patches;
  std::vector<TiffPageRecipe> pages;  // as in the structure
};

Bytes encode_tiff_recipe(const TiffRecipe&);
result<TiffRecipe> parse_tiff_recipe(ByteView);

// What lies between the strips and tiles that are marked, in order. corrupt when they overlap.
result<std::vector<ByteRange>> rest_of(const ByteSource&, const TiffStructure&);

// The original bytes of all that a writer may change in the directories.
result<std::vector<Patch>> changeable_bytes(const ByteSource&, const TiffStructure&);

}  // namespace datacloud::watermark
