// TIFF and BigTIFF as surfaces: strips and tiles, contiguous and separate planes, 8 and 16 bits.
// For picture.cc and tests; tiff_writer.h writes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "watermark/picture/picture.h"
#include "watermark/picture/tiff_codec.h"
#include "watermark/picture/tiff_recipe.h"
#include "watermark/picture/tiff_structure.h"

namespace datacloud::watermark {

// Of a surface: which page and plane of the structure.
struct TiffPlane {
  size_t page = 0;
  uint32_t first_block = 0;
};

// Geometry of a page's blocks as one plane sees it.
struct TiffGrid {
  uint32_t across = 1, down = 1, width = 1, height = 1;  // height: of a full block
  size_t pixel_bytes = 1;
  // Rows that block row `row` stores: fewer in the last strip, never in tiles.
  uint32_t rows_stored(const TiffPage&, uint32_t row) const;
  size_t row_bytes() const { return size_t{width} * pixel_bytes; }
};
TiffGrid grid_of(const TiffPage&);

// Uncompressed strips are read and written row by row, however long they are.
bool by_rows(const TiffPage&);

// Samples of 16 bits from or to big-endian.
void swap_samples(MutableByteView);

class TiffPicture : public Picture {
 public:
  static result<std::unique_ptr<Picture>> open(std::unique_ptr<ByteSource>);

  const char* format() const override { return tiff_.big ? "BigTIFF" : "TIFF"; }
  const std::vector<Surface>& surfaces() const override { return surfaces_; }
  const std::optional<Bytes>& record() const override { return record_; }
  result<void> read_rows(size_t surface, uint32_t y, MutableByteView out) override;
  result<std::unique_ptr<PictureWriter>> write_marked(OutputFile&) override;
  result<Bytes> recipe() override;
  result<void> check_rest(ByteView recipe) override;
  result<std::unique_ptr<PictureWriter>> write_restored(OutputFile&, ByteView recipe) override;

  const std::vector<TiffPlane>& planes() const { return planes_; }

 private:
  explicit TiffPicture(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}
  result<void> load();
  result<void> load_record();
  result<void> check_page(const TiffPage&, uint64_t& sample_bytes) const;
  result<void> check_overlaps();
  void add_surfaces(size_t page, const TiffPage& base);
  result<void> read_strip_rows(const TiffPage&, uint32_t first_block, uint32_t y, MutableByteView);
  result<void> read_block(const TiffPage&, size_t thread, uint32_t block, MutableByteView);
  void note_padding(size_t page, const TiffGrid&, uint32_t row, uint32_t column, ByteView block);
  result<TiffEncoding> encoding_of(size_t page);
  struct Original {
    TiffRecipe recipe;
    std::unique_ptr<PatchedSource> file;
    TiffStructure tiff;
  };
  result<Original> original_of(ByteView recipe);
  Error refused(const std::string& what) const;

  std::unique_ptr<ByteSource> source_;
  TiffStructure tiff_;
  std::vector<Surface> surfaces_;
  std::vector<TiffPlane> planes_;  // of the surfaces
  std::optional<Bytes> record_;
  std::vector<std::unique_ptr<TiffDecoder>> decoders_;  // one per thread
  std::vector<std::optional<TiffEncoding>> encodings_;  // per page
  std::vector<std::optional<uint16_t>> padding_;        // per page: seen so far
  std::unique_ptr<PatchedSource> original_;             // of a marked file, for write_restored
  // The latest strip, which the next band may begin in.
  size_t cached_page_ = 0;
  uint32_t cached_block_ = 0;
  Bytes cached_;
};

// How a TIFF's record lies at the end of the file: its bytes, their number (u64, little-endian),
// and these.
inline constexpr std::string_view kTiffTrailer = "DCWMEND1";
inline constexpr size_t kTiffTrailerBytes = 16;

}  // namespace datacloud::watermark
