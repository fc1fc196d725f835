// The HMAC-SHA256 of all samples of a picture: over the shape of each surface and the SHA-256 of
// each of its bands (surface.h), in order, so that bands can be hashed in any order by any thread.
// docs/format-watermark.md has the bytes.
#pragma once

#include <memory>
#include <string_view>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"
#include "watermark/pixels/surface.h"
#include "watermark/record/mark_record.h"

namespace datacloud::watermark {

Digest band_digest(ByteView samples);

class SamplesMac {
 public:
  // `which`: "original" or "marked".
  SamplesMac(const SecretKey& mac_key, std::string_view which);
  ~SamplesMac();
  SamplesMac(const SamplesMac&) = delete;
  SamplesMac& operator=(const SamplesMac&) = delete;

  void begin_surface(const Surface&);
  void add_band(const Digest&);
  Digest finish();

 private:
  void add(ByteView);
  struct Context;
  std::unique_ptr<Context> context_;
};

// In time that does not depend on where they differ.
bool equal_digests(const Digest&, const Digest&);

}  // namespace datacloud::watermark
