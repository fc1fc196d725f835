// PNG as one surface: grey and RGB, with and without alpha, 8 and 16 bits, interlaced or not.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "watermark/picture/picture.h"
#include "watermark/picture/png_decoder.h"
#include "watermark/picture/png_structure.h"

namespace datacloud::watermark {

// Interlaced pictures are held in memory as a whole.
inline constexpr uint64_t kInterlacedBytesMax = uint64_t{64} << 20;

class PngPicture : public Picture {
 public:
  static result<std::unique_ptr<Picture>> open(std::unique_ptr<ByteSource>);

  const char* format() const override { return "PNG"; }
  const std::vector<Surface>& surfaces() const override { return surfaces_; }
  const std::optional<Bytes>& record() const override { return record_; }
  result<void> read_rows(size_t surface, uint32_t y, MutableByteView out) override;
  result<std::unique_ptr<PictureWriter>> write_marked(OutputFile&) override;
  result<Bytes> recipe() override;
  result<void> check_rest(ByteView recipe) override;
  result<std::unique_ptr<PictureWriter>> write_restored(OutputFile&, ByteView recipe) override;

 private:
  explicit PngPicture(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}
  result<void> load();
  Error refused(const std::string& what) const;
  result<void> find_encoding();
  result<Bytes> rest_digest() const;

  std::unique_ptr<ByteSource> source_;
  PngStructure png_;
  PngPasses passes_;
  std::vector<Surface> surfaces_;
  std::optional<Bytes> record_;
  std::optional<PngEncoding> encoding_;
  std::unique_ptr<PngDecoder> decoder_;
  uint32_t next_row_ = 0;  // that the decoder will give
  Bytes interlaced_;       // all samples
};

}  // namespace datacloud::watermark
