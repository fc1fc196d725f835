// A file, read at any offset; and a file some of whose bytes are replaced while reading.
//
// Thread safety: reads from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud::watermark {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;  // for error texts
  virtual uint64_t size() const = 0;
  // All of `out`; corrupt, naming the file, when it ends before.
  virtual result<void> read(uint64_t offset, MutableByteView out) const = 0;
};

// A regular file.
result<std::unique_ptr<ByteSource>> open_source(const std::string& path);

// Bytes that were changed in a copy of a file, as they are in the file.
struct Patch {
  uint64_t offset = 0;
  Bytes bytes;
};

// `under`, cut at `size`, with the patches in it. `under` must live as long as this.
class PatchedSource : public ByteSource {
 public:
  PatchedSource(const ByteSource& under, uint64_t size, std::vector<Patch> patches)
      : under_(under), size_(size), patches_(std::move(patches)) {}
  const std::string& name() const override { return under_.name(); }
  uint64_t size() const override { return size_; }
  result<void> read(uint64_t offset, MutableByteView out) const override;

 private:
  const ByteSource& under_;
  const uint64_t size_;
  const std::vector<Patch> patches_;
};

// SHA-256 of these parts of a source, one after another.
result<Bytes> sha256_of(const ByteSource&, const std::vector<ByteRange>&);
inline result<Bytes> sha256_of(const ByteSource& source) {
  return sha256_of(source, {{0, source.size()}});
}

}  // namespace datacloud::watermark
