// Writes a copy of a PNG with other samples: all chunks but IDAT are copied. For png_picture.cc.
#pragma once

#include <zlib.h>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "watermark/picture/picture.h"
#include "watermark/picture/png_structure.h"

namespace datacloud::watermark {

class PngWriter : public PictureWriter {
 public:
  // `file`, `png` and `passes` must live as long as the writer.
  static result<std::unique_ptr<PictureWriter>> start(const ByteSource& file,
                                                      const PngStructure& png,
                                                      const PngPasses& passes, const Surface&,
                                                      PngEncoding, OutputFile&);
  ~PngWriter() override;
  result<void> write_rows(size_t surface, ByteView rows) override;
  result<void> finish(ByteView record) override;

 private:
  PngWriter(const ByteSource& file, const PngStructure& png, const PngPasses& passes,
            const Surface& surface, PngEncoding encoding, OutputFile& out)
      : file_(file),
        png_(png),
        passes_(passes),
        surface_(surface),
        encoding_(std::move(encoding)),
        out_(out) {}
  result<void> copy(ByteRange);
  result<void> pass_row(ByteView row);  // of the pass, in native byte order
  result<void> interlaced_rows();
  result<void> compress(ByteView bytes, int flush);
  result<void> take_compressed(ByteView bytes);
  result<void> write_chunk(std::string_view type, ByteView contents);
  uint32_t chunk_bytes_wanted() const;
  void next_chunk();

  const ByteSource& file_;
  const PngStructure& png_;
  const PngPasses& passes_;
  const Surface& surface_;
  const PngEncoding encoding_;
  OutputFile& out_;
  z_stream deflate_{};
  bool deflating_ = false;
  size_t filters_used_ = 0;
  Bytes row_, above_, filtered_, scratch_;
  Bytes chunk_;                    // of IDAT, not yet complete
  size_t run_ = 0, run_used_ = 0;  // in encoding_.chunk_bytes
  uint64_t compressed_ = 0;        // bytes so far
  uint64_t end_ = 0;               // of the file so far
  Bytes all_;                      // samples of an interlaced picture
};

}  // namespace datacloud::watermark
