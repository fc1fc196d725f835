// An object file of a directory site, read back from a medium that is not trusted.
#include "common/store/object_file.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace object_file_input {

class MemoryFile final : public File {
 public:
  explicit MemoryFile(ByteView bytes) : bytes_(bytes) {}
  result<void> append(ByteView) override { return failure(Errc::unsupported, "read only"); }
  result<size_t> pread(uint64_t offset, MutableByteView out) override {
    if (offset >= bytes_.size()) return size_t{0};
    const size_t n = std::min<uint64_t>(out.size(), bytes_.size() - offset);
    std::copy_n(bytes_.begin() + offset, n, out.begin());
    return n;
  }
  result<void> sync() override { return success(); }
  result<uint64_t> size() override { return uint64_t{bytes_.size()}; }

 private:
  const ByteView bytes_;
};

void run(ByteView input) {
  MemoryFile file(input);
  const std::vector<ByteRange> ranges = {
      {0, 16}, {5, UINT64_MAX}, {UINT64_MAX, 1}, {UINT64_MAX, UINT64_MAX}, {100, 0}};
  for (bool want_attributes : {false, true}) {
    const auto reply = read_object_file(file, ranges, want_attributes);
    if (!reply) continue;
    require(reply.value().ranges.size() == ranges.size(), "every range is answered");
    require(reply.value().object_size <= input.size(), "an object is not longer than its file");
    for (const auto& range : reply.value().ranges)
      require(range.size() <= reply.value().object_size, "a range lies in the object");
  }
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> files;
  for (const Attributes& attributes :
       {Attributes{}, Attributes{{"a", "1"}, {"tag", std::string(40, 'x')}}}) {
    Bytes file(64, 0x5a);
    const auto trailer = encode_object_trailer(file.size(), attributes);
    file.insert(file.end(), trailer.value().begin(), trailer.value().end());
    files.push_back(file);
  }
  return files;
}

}  // namespace object_file_input

FuzzTarget object_file_target() {
  return {"object_file", object_file_input::run, object_file_input::seeds};
}

}  // namespace datacloud::fuzz
