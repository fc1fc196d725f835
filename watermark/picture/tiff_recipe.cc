// Encoding and strict decoding of recipes (tiff_recipe.h).
#include "watermark/picture/tiff_recipe.h"

#include <algorithm>

#include "watermark/record/little_endian.h"

namespace datacloud::watermark {

Bytes encode_tiff_recipe(const TiffRecipe& recipe) {
  FieldWriter out;
  out.number(recipe.file_bytes);
  out.raw(recipe.rest);
  out.number(static_cast<uint32_t>(recipe.patches.size()));
  for (const auto& patch : recipe.patches) {
    out.number(patch.offset);
    out.sized(patch.bytes);
  }
  out.number(static_cast<uint32_t>(recipe.pages.size()));
  for (const auto& page : recipe.pages) {
    out.number(page.library);
    out.number(page.level);
    out.number(page.padding);
  }
  return out.take();
}

result<TiffRecipe> parse_tiff_recipe(ByteView bytes) {
  FieldReader in(bytes);
  TiffRecipe recipe;
  recipe.file_bytes = in.number<uint64_t>();
  recipe.rest = to_bytes(in.raw(32));
  const auto patches = in.number<uint32_t>();
  for (uint32_t i = 0; i < patches && in.good(); ++i) {
    Patch patch;
    patch.offset = in.number<uint64_t>();
    patch.bytes = to_bytes(in.sized());
    if (patch.bytes.size() > recipe.file_bytes ||
        patch.offset > recipe.file_bytes - patch.bytes.size())
      return failure(Errc::corrupt, "the recipe of the original changes bytes outside of it");
    recipe.patches.push_back(std::move(patch));
  }
  const auto pages = in.number<uint32_t>();
  for (uint32_t i = 0; i < pages && in.good(); ++i) {
    TiffPageRecipe page;
    page.library = in.number<uint8_t>();
    page.level = in.number<uint8_t>();
    page.padding = in.number<uint16_t>();
    recipe.pages.push_back(page);
  }
  if (!in.finished()) return failure(Errc::corrupt, "the recipe of the original is damaged");
  return recipe;
}

result<std::vector<ByteRange>> rest_of(const ByteSource& source, const TiffStructure& tiff) {
  std::vector<ByteRange> blocks, rest;
  for (const auto& page : tiff.pages) {
    if (page.is_transparency_mask()) continue;
    for (const auto& block : page.blocks)
      if (block.length != 0) blocks.push_back(block);
  }
  std::ranges::sort(blocks, {}, &ByteRange::offset);
  blocks.push_back({source.size(), 0});
  uint64_t at = 0;
  for (const auto& block : blocks) {
    if (block.offset < at)
      return failure(Errc::corrupt, source.name() + ": strips or tiles overlap");
    if (block.offset > at) rest.push_back({at, block.offset - at});
    at = block.offset + block.length;
  }
  return rest;
}

result<std::vector<Patch>> changeable_bytes(const ByteSource& source, const TiffStructure& tiff) {
  std::vector<Patch> patches;
  const auto keep = [&](uint64_t offset, uint64_t length) -> result<void> {
    Patch patch{offset, Bytes(length)};
    TRY(source.read(offset, patch.bytes));
    patches.push_back(std::move(patch));
    return success();
  };
  for (const auto& page : tiff.pages) {
    const bool sparse = std::any_of(page.blocks.begin(), page.blocks.end(),
                                    [](const ByteRange& block) { return block.length == 0; });
    if (page.is_transparency_mask() || (page.compression == kTiffNone && !sparse)) continue;
    for (const auto* array : {&page.offsets, &page.counts}) {
      TRY(keep(array->entry, tiff.entry_bytes()));
      const bool inside =
          array->values > array->entry && array->values < array->entry + tiff.entry_bytes();
      if (!inside) {
        TRY(keep(array->values, array->count * tiff_type_bytes(array->type)));
      }
    }
  }
  if (tiff.unedited_claim != 0) {
    TRY(keep(tiff.unedited_claim, kUneditedClaim.size()));
  }
  return patches;
}

}  // namespace datacloud::watermark
