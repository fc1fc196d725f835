// Pictures as surfaces of samples (surface.h), whatever their file format, and writing a file that
// equals another one but for the samples.
//
// Everything that is not samples is kept as bytes, not as what a library makes of it: tags, chunks,
// GeoTIFF keys, EXIF, ICC profiles, unknown ones. What cannot be marked losslessly is refused by
// name when a picture is opened (unsupported); damage is corrupt; both texts name the file.
//
// Memory: a picture holds what its directory says (bounded, docs/watermark.md) and one decoded
// strip or tile; a writer the same, and rows of one row of tiles at most.
//
// Thread safety: one thread at a time for a picture and its writers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"
#include "watermark/picture/output_file.h"
#include "watermark/pixels/surface.h"

namespace datacloud::watermark {

// Larger ones are refused before anything is decoded.
inline constexpr uint32_t kPictureSideMax = 1u << 24;
inline constexpr uint64_t kPictureBytesMax = uint64_t{1} << 40;  // of samples, all pages
inline constexpr size_t kBlockBytesMax = size_t{64} << 20;       // a decoded strip or tile
inline constexpr size_t kRowBytesMax = size_t{16} << 20;

// Writes all samples, in the order of surfaces and, in each, from the top.
class PictureWriter {
 public:
  virtual ~PictureWriter() = default;
  virtual result<void> write_rows(size_t surface, ByteView rows) = 0;
  // After the last row. The bytes of `record` go into the file as its record; empty: none.
  virtual result<void> finish(ByteView record) = 0;
};

class Picture {
 public:
  virtual ~Picture() = default;
  virtual const char* format() const = 0;  // "TIFF", "BigTIFF", "PNG"
  virtual const std::vector<Surface>& surfaces() const = 0;
  // The bytes of the record in the file, if it has one.
  virtual const std::optional<Bytes>& record() const = 0;
  // `out`: whole rows from row y on, in native byte order. Quick when called from the top down.
  virtual result<void> read_rows(size_t surface, uint32_t y, MutableByteView out) = 0;
  // A copy of this file with other samples. `this` must outlive the writer.
  virtual result<std::unique_ptr<PictureWriter>> write_marked(OutputFile&) = 0;
  // What write_restored needs to make this file again; call it when all rows were read.
  virtual result<Bytes> recipe() = 0;
  // Of a marked picture, with the recipe of its original: corrupt when anything but samples is not
  // as in the original any more.
  virtual result<void> check_rest(ByteView recipe) = 0;
  // The original file, given its samples; check_rest comes first. The
  // bytes are those of the original where encoding gives the same again; the samples always are.
  virtual result<std::unique_ptr<PictureWriter>> write_restored(OutputFile&, ByteView recipe) = 0;
};

result<std::unique_ptr<Picture>> open_picture(std::unique_ptr<ByteSource>);

}  // namespace datacloud::watermark
