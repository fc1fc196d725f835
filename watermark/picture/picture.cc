// Which format a file has (picture.h).
#include "watermark/picture/picture.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "watermark/picture/png_picture.h"
#include "watermark/picture/tiff_picture.h"

namespace datacloud::watermark {
namespace {

// What is recognised to be refused by name.
const char* lossy_format(ByteView first) {
  const std::string_view text = as_text(first);
  if (text.starts_with("\xff\xd8\xff")) return "JPEG";
  if (text.substr(4, 4) == "jP  " || text.starts_with("\xff\x4f\xff\x51")) return "JPEG 2000";
  if (text.starts_with("RIFF") && text.substr(8, 4) == "WEBP") return "WebP";
  if (text.starts_with("GIF8")) return "GIF";
  if (text.substr(4, 8) == "ftypavif" || text.substr(4, 8) == "ftypheic") return "AVIF or HEIC";
  return nullptr;
}

}  // namespace

result<std::unique_ptr<Picture>> open_picture(std::unique_ptr<ByteSource> source) {
  Bytes first(std::min<uint64_t>(12, source->size()));
  TRY(source->read(0, first));
  if (is_tiff(first)) return TiffPicture::open(std::move(source));
  if (is_png(first)) return PngPicture::open(std::move(source));
  if (const char* name = first.size() == 12 ? lossy_format(first) : nullptr)
    return failure(Errc::unsupported,
                   source->name() + " is " + name +
                       ": it cannot be marked losslessly; only TIFF, BigTIFF and "
                       "PNG are taken (gdal_translate converts)");
  return failure(Errc::unsupported,
                 source->name() + " is neither TIFF nor PNG (gdal_translate converts)");
}

}  // namespace datacloud::watermark
