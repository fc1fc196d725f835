// The record that a marked file carries: what `datacloud watermark inspect` shows to everybody, and
// a sealed part for holders of the key. docs/format-watermark.md has the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/pixels/mark_kernels.h"
#include "watermark/pixels/mark_layout.h"
#include "watermark/pixels/mark_raster.h"
#include "watermark/record/watermark_key.h"

namespace datacloud::watermark {

enum class Profile : uint8_t {
  notice = 1,   // the picture stays readable under the mark
  conceal = 2,  // what is marked becomes noise
};
const char* profile_name(Profile);

using Digest = std::array<uint8_t, 32>;
using PictureUuid = std::array<uint8_t, 16>;

inline constexpr size_t kRecordHeadBytes = 124;  // everything before the sealed part
inline constexpr size_t kRecordBytesMax = size_t{64} << 20;
inline constexpr size_t kRecipeBytesMax = size_t{256} << 20;  // unpacked

struct MarkRecord {
  Profile profile = Profile::notice;
  MarkStrength strength;  // for samples of 8 bits
  MarkPlace place;
  PictureUuid uuid{};
  uint32_t mark_width = 0, mark_height = 0;
  MarkHash mark_hash{};
  Digest samples_mac{};  // HMAC of the marked samples
  Bytes sealed;          // nonce, ciphertext, tag

  // What the picture's keys are derived from: uuid, hash of the mark and all parameters.
  Bytes bound_bytes() const;
  std::string uuid_text() const;
};

Bytes encode_record(const MarkRecord&);
// corrupt: not a record, of another version, or with values that encode_record never writes. The
// bytes must be one record exactly.
result<MarkRecord> parse_record(ByteView);

// What only the key opens.
struct SealedPart {
  Digest original_mac{};     // HMAC of the original samples
  Digest original_sha256{};  // of the original file
  uint64_t original_bytes = 0;
  Bytes mark;    // packed (mark_raster.h)
  Bytes recipe;  // how the original file was written; belongs to its format (watermark/picture)
};

Bytes encode_sealed_part(const SealedPart&);
result<SealedPart> parse_sealed_part(ByteView);

// Seals into record.sealed with AES-256-GCM, binding everything else of the record; so samples_mac
// must be set before. invalid when the record would exceed kRecordBytesMax.
result<void> seal_record(const PictureKeys&, const SealedPart&, MarkRecord&);
// corrupt when the key is not the one the picture was marked with, or the record was changed: which
// of them cannot be told.
result<SealedPart> open_record(const PictureKeys&, const MarkRecord&);

}  // namespace datacloud::watermark
