// Marking a picture and taking the mark off again: what `datacloud watermark` does.
//
// Every function reads a file named `input` and, where it makes one, fills an OutputFile that the
// caller commits on success; until then nobody sees it. Memory: bands of the picture, at most
// kBatchBytesMax, and what the file format needs (watermark/picture/picture.h).
//
// Thread safety: each call is by itself; threads are used inside.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/crypto/keys.h"
#include "watermark/picture/output_file.h"
#include "watermark/pixels/mark_layout.h"
#include "watermark/pixels/mark_raster.h"
#include "watermark/record/mark_record.h"

namespace datacloud::watermark {

inline constexpr size_t kBatchBytesMax = size_t{64} << 20;

using ShowProgress = std::function<void(uint64_t bytes_done, uint64_t bytes_all)>;

struct MarkOptions {
  Profile profile = Profile::notice;
  uint32_t opacity = 153;  // 0..256
  MarkPlace place;
};

struct PageFacts {
  uint32_t width = 0, height = 0, channels = 0, bits = 0;
};
struct WatermarkFacts {
  std::string format;
  std::vector<PageFacts> pages;  // that are marked, overviews among them
  uint64_t sample_bytes = 0;
  MarkRecord record;
};

result<MarkRaster> load_mark(const std::string& png_path);

// unsupported, naming the reason, for what cannot be marked losslessly; exists when it is marked.
result<WatermarkFacts> apply_watermark(const std::string& input, const MarkRaster&,
                                       const MarkOptions&, const SecretKey& watermark_key,
                                       OutputFile& out, const ShowProgress&);

struct RestoredFacts {
  WatermarkFacts marked;
  bool file_identical = false;  // all bytes of the file, not only its samples and metadata
};
// corrupt when the key is another one, or the record or any sample was changed: then `out` must not
// be committed.
result<RestoredFacts> remove_watermark(const std::string& input, const SecretKey& watermark_key,
                                       OutputFile& out, const ShowProgress&);

// Success: every sample is as it was marked, and everything else as in the original. corrupt as
// above.
result<WatermarkFacts> verify_watermark(const std::string& input, const SecretKey& watermark_key,
                                        const ShowProgress&);

// What anybody can see.
result<WatermarkFacts> inspect_watermark(const std::string& input);

}  // namespace datacloud::watermark
