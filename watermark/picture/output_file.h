// The file a command makes: nameless or under a temporary name until it is whole and durable, so
// that nobody ever sees a part of it, and nothing that exists is overwritten unless that was asked
// for.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "watermark/picture/byte_source.h"

namespace datacloud::watermark {

class OutputFile : public ByteSource {
 public:
  // exists when there is a file of that name and `replace` is not set.
  static result<std::unique_ptr<OutputFile>> create(const std::string& path, bool replace);
  ~OutputFile() override;  // removes what was not committed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& name() const override { return path_; }
  uint64_t size() const override { return size_; }  // the end of what was written
  result<void> read(uint64_t offset, MutableByteView out) const override;
  // Anywhere; what lies between and is never written reads as zeros.
  result<void> write(uint64_t offset, ByteView bytes);
  result<void> set_size(uint64_t size);
  // Durable under its name on return.
  result<void> commit();

 private:
  OutputFile(std::string path, bool replace) : path_(std::move(path)), replace_(replace) {}
  std::string beside() const;  // a temporary name in the same directory

  const std::string path_;
  const bool replace_;
  std::string temporary_;  // empty: nameless
  int fd_ = -1;
  uint64_t size_ = 0;
};

}  // namespace datacloud::watermark
