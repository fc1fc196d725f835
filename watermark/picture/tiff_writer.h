// Writes a copy of a TIFF with other samples: everything else keeps its bytes and its place.
// Encoded strips and tiles go where the old ones were as far as they fit there, the others behind
// the file's end; directories are changed in place to say so. For tiff_picture.cc.
#pragma once

#include <memory>
#include <vector>

#include "watermark/picture/picture.h"
#include "watermark/picture/tiff_codec.h"
#include "watermark/picture/tiff_structure.h"

namespace datacloud::watermark {

struct TiffPlane;

struct TiffPageEncoding {
  TiffEncoding encoding;
  uint16_t padding = 0;  // samples of tiles outside of the page
};

class TiffWriter : public PictureWriter {
 public:
  enum class Purpose { mark, restore };
  // `file` is copied but for the blocks of `tiff`, which describes it; both it and `planes` must
  // live as long as the writer.
  static result<std::unique_ptr<PictureWriter>> start(const ByteSource& file, TiffStructure tiff,
                                                      const std::vector<TiffPlane>& planes,
                                                      std::vector<TiffPageEncoding>, Purpose,
                                                      OutputFile&);
  result<void> write_rows(size_t surface, ByteView rows) override;
  result<void> finish(ByteView record) override;

 private:
  TiffWriter(const ByteSource& file, TiffStructure tiff, const std::vector<TiffPlane>& planes,
             std::vector<TiffPageEncoding> encodings, Purpose purpose, OutputFile& out)
      : file_(file),
        tiff_(std::move(tiff)),
        planes_(planes),
        encodings_(std::move(encodings)),
        purpose_(purpose),
        out_(out) {}
  result<void> copy_rest();
  result<void> write_strip_rows(const TiffPlane&, ByteView rows);
  result<void> write_block_rows(const TiffPlane&, uint32_t first, uint32_t count, ByteView rows);
  void cut_block(const TiffPage&, const TiffPageEncoding&, uint32_t row, uint32_t column,
                 uint32_t first, ByteView rows, Bytes& block) const;
  result<void> place(size_t page, size_t block, const Bytes& encoded, bool zeros);
  uint64_t find_room(size_t bytes);
  result<void> update_page(size_t page);
  result<void> store_numbers(const TiffArray&, const std::vector<ByteRange>&, bool offsets);

  const ByteSource& file_;
  const TiffStructure tiff_;
  const std::vector<TiffPlane>& planes_;
  const std::vector<TiffPageEncoding> encodings_;
  const Purpose purpose_;
  OutputFile& out_;
  std::vector<std::vector<ByteRange>> placed_;  // per page
  std::vector<ByteRange> free_;                 // of the old blocks, for new ones of any page
  size_t first_free_ = 0;
  uint64_t end_ = 0;  // of the file so far
  // Rows of the current surface that do not yet fill a row of blocks.
  size_t surface_ = 0;
  uint32_t next_row_ = 0;  // of the surface, the first one in pending_ or to come
  Bytes pending_;
};

}  // namespace datacloud::watermark
