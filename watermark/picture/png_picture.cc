// What PNG files are taken, and reading their samples (png_picture.h).
#include "watermark/picture/png_picture.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "watermark/picture/png_writer.h"
#include "watermark/record/mark_record.h"

namespace datacloud::watermark {

Error PngPicture::refused(const std::string& what) const {
  return Error(Errc::unsupported, source_->name() + " cannot be marked losslessly: it has " + what);
}

result<std::unique_ptr<Picture>> PngPicture::open(std::unique_ptr<ByteSource> source) {
  std::unique_ptr<PngPicture> picture(new PngPicture(std::move(source)));
  TRY(picture->load());
  return std::unique_ptr<Picture>(std::move(picture));
}

result<void> PngPicture::load() {
  TRY(png_, parse_png(*source_));
  if (png_.colour == 3) return failure(refused("a palette"));
  if (png_.bits != 8 && png_.bits != 16)
    return failure(refused(fmt::format("{} bit{} per sample; only 8 and 16 are taken", png_.bits,
                                       png_.bits == 1 ? "" : "s")));
  if (png_.animated) return failure(refused("several frames (APNG)"));
  if (png_.has_preview)
    return failure(
        refused("a thumbnail in its EXIF data, which would stay unmarked; remove it first "
                "(exiftool -ThumbnailImage=)"));
  using enum ChannelRole;
  Surface surface;
  switch (png_.colour) {
    case 0:
      surface.roles = {grey};
      break;
    case 2:
      surface.roles = {red, green, blue};
      break;
    case 4:
      surface.roles = {grey, none};
      break;
    case 6:
      surface.roles = {red, green, blue, none};
      break;
    default:
      return failure(Errc::corrupt, source_->name() + ": damaged PNG: no known colour type");
  }
  surface.bits = png_.bits;
  surface.width = surface.base_width = png_.width;
  surface.height = surface.base_height = png_.height;
  if (png_.width > kPictureSideMax || png_.height > kPictureSideMax ||
      surface.row_bytes() > kRowBytesMax ||
      uint64_t{surface.row_bytes()} * surface.height > kPictureBytesMax)
    return failure(refused(
        fmt::format("{} x {} pixels, which is beyond the limits", png_.width, png_.height)));
  if (png_.interlaced && uint64_t{surface.row_bytes()} * surface.height > kInterlacedBytesMax)
    return failure(
        refused("interlaced rows of more than 64 MiB; store it without interlacing first "
                "(magick IN -interlace none OUT)"));
  surfaces_.push_back(std::move(surface));
  passes_ = png_passes(png_.width, png_.height, png_.interlaced);
  if (png_.record.length == 0) return success();
  if (png_.record.length > kRecordBytesMax)
    return failure(Errc::corrupt, source_->name() + ": the watermark record is damaged");
  record_.emplace(png_.record.length);
  return source_->read(png_.record.offset, *record_);
}

result<void> PngPicture::read_rows(size_t, uint32_t y, MutableByteView out) {
  const size_t row_bytes = surfaces_[0].row_bytes();
  if (png_.interlaced) {
    if (interlaced_.empty()) {
      TRY(decoder_, PngDecoder::open(*source_));
      interlaced_.resize(row_bytes * png_.height);
      TRY(decoder_->all_rows(row_bytes, interlaced_));
    }
    std::memcpy(out.data(), interlaced_.data() + y * row_bytes, out.size());
    return success();
  }
  if (decoder_ == nullptr || y < next_row_) {
    TRY(decoder_, PngDecoder::open(*source_));
    next_row_ = 0;
  }
  Bytes skipped(next_row_ < y ? row_bytes : 0);
  for (; next_row_ < y; ++next_row_) {
    TRY(decoder_->next_row(skipped));
  }
  for (; !out.empty(); out = out.subspan(row_bytes), ++next_row_) {
    TRY(decoder_->next_row(out.first(row_bytes)));
  }
  return success();
}

result<void> PngPicture::find_encoding() {
  if (encoding_) return success();
  TRY(encoding_, find_png_encoding(*source_, png_, passes_));
  return success();
}

result<Bytes> PngPicture::recipe() {
  TRY(find_encoding());
  TRY(encoding_->rest, rest_digest());
  return encode_png_recipe(*encoding_);
}

result<std::unique_ptr<PictureWriter>> PngPicture::write_marked(OutputFile& out) {
  return PngWriter::start(*source_, png_, passes_, surfaces_[0], PngEncoding{}, out);
}

result<Bytes> PngPicture::rest_digest() const {
  std::vector<ByteRange> rest = png_.after;
  rest.insert(rest.begin(), png_.before);
  return sha256_of(*source_, rest);
}

result<void> PngPicture::check_rest(ByteView recipe) {
  TRY(const auto encoding, parse_png_recipe(recipe));
  TRY(const auto digest, rest_digest());
  if (digest != encoding.rest)
    return failure(Errc::corrupt, source_->name() +
                                      ": metadata were changed after the picture was "
                                      "marked. Take the file as it was published");
  return success();
}

result<std::unique_ptr<PictureWriter>> PngPicture::write_restored(OutputFile& out,
                                                                  ByteView recipe) {
  TRY(auto encoding, parse_png_recipe(recipe));
  return PngWriter::start(*source_, png_, passes_, surfaces_[0], std::move(encoding), out);
}

}  // namespace datacloud::watermark
