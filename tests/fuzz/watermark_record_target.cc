// What a marked picture carries: its record, and what the record seals. Accepted ones are
// canonical.
#include "tests/fuzz/fuzz_target.h"
#include "watermark/picture/png_structure.h"
#include "watermark/picture/tiff_recipe.h"
#include "watermark/record/mark_record.h"

namespace datacloud::fuzz {
namespace watermark_record_input {

using namespace watermark;

void run(ByteView input) {
  if (input.empty()) return;
  const ByteView rest = input.subspan(1);
  switch (input[0] % 4) {
    case 0: {
      const auto record = parse_record(rest);
      if (record) require(encode_record(record.value()) == to_bytes(rest), "records are canonical");
      break;
    }
    case 1: {
      const auto part = parse_sealed_part(rest);
      if (!part) break;
      const auto again = parse_sealed_part(encode_sealed_part(part.value()));
      require(again && again.value().recipe == part.value().recipe &&
                  again.value().mark == part.value().mark,
              "a sealed part comes back");
      (void)unpack_mark(16, 16, part.value().mark);
      break;
    }
    case 2: {
      const auto recipe = parse_tiff_recipe(rest);
      if (recipe)
        require(encode_tiff_recipe(recipe.value()) == to_bytes(rest), "recipes are canonical");
      break;
    }
    default: {
      const auto recipe = parse_png_recipe(rest);
      if (recipe)
        require(encode_png_recipe(recipe.value()) == to_bytes(rest), "recipes are canonical");
    }
  }
}

Bytes with_kind(uint8_t kind, Bytes bytes) {
  bytes.insert(bytes.begin(), kind);
  return bytes;
}

std::vector<Bytes> seeds() {
  MarkRecord record;
  record.strength = {153, 4, 8};
  record.mark_width = record.mark_height = 16;
  record.sealed = Bytes(40, 1);
  SealedPart part;
  part.mark = pack_mark(MarkRaster{16, 16, Bytes(16 * 16 * 4, 255)});
  part.recipe = Bytes(50, 5);
  TiffRecipe tiff;
  tiff.file_bytes = 1000;
  tiff.rest = Bytes(32, 6);
  tiff.patches = {{8, Bytes(12, 2)}, {500, Bytes(40, 3)}};
  tiff.pages = {{1, 6, 0}};
  PngEncoding png;
  png.filters = Bytes(20, 4);
  png.chunk_bytes = {3, 8192, 1, 77};
  png.rest = Bytes(32, 6);
  return {with_kind(0, encode_record(record)), with_kind(1, encode_sealed_part(part)),
          with_kind(2, encode_tiff_recipe(tiff)), with_kind(3, encode_png_recipe(png))};
}

}  // namespace watermark_record_input

FuzzTarget watermark_record_target() {
  return {"watermark_record", watermark_record_input::run, watermark_record_input::seeds};
}

}  // namespace datacloud::fuzz
