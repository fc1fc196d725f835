// Encoding and careful decoding of object files.
#include "common/store/object_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "common/base/crc32c.h"

namespace datacloud {
namespace {

constexpr uint32_t kMagic = 0x316f4344;  // "DCo1"

struct Footer {
  uint32_t attributes_bytes = 0;
  uint64_t data_bytes = 0;
  uint32_t attributes_crc = 0;
};

template <class T>
void put_le(Bytes& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

template <class T>
T get_le(ByteView in, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(T{in[offset + i]} << (8 * i));
  return value;
}

void put_footer_record(Bytes& out, const Footer& footer) {
  const size_t start = out.size();
  put_le(out, kMagic);
  put_le(out, footer.attributes_bytes);
  put_le(out, footer.data_bytes);
  put_le(out, footer.attributes_crc);
  put_le(out, crc32c(ByteView(out).subspan(start)));
}

std::optional<Footer> parse_footer_record(ByteView record, uint64_t file_bytes) {
  if (get_le<uint32_t>(record, 0) != kMagic) return std::nullopt;
  if (get_le<uint32_t>(record, 20) != crc32c(record.first(20))) return std::nullopt;
  const Footer footer{get_le<uint32_t>(record, 4), get_le<uint64_t>(record, 8),
                      get_le<uint32_t>(record, 16)};
  const uint64_t trailer = uint64_t{footer.attributes_bytes} + kFooterBytes;
  if (trailer > file_bytes || file_bytes - trailer != footer.data_bytes) return std::nullopt;
  return footer;
}

result<std::optional<Footer>> read_footer(File& file, uint64_t file_bytes) {
  std::array<uint8_t, kFooterBytes> bytes;
  if (file_bytes < bytes.size()) return std::optional<Footer>();
  TRY(auto n, file.pread(file_bytes - bytes.size(), bytes));
  if (n < bytes.size()) return std::optional<Footer>();
  const ByteView view(bytes);
  auto footer = parse_footer_record(view.first(kFooterRecordBytes), file_bytes);
  if (!footer) footer = parse_footer_record(view.last(kFooterRecordBytes), file_bytes);
  return footer;
}

result<Attributes> parse_attributes(ByteView in) {
  Attributes attributes;
  while (!in.empty()) {
    if (in.size() < 6) return failure(Errc::corrupt, "attributes end too early");
    const size_t name_bytes = get_le<uint16_t>(in, 0), value_bytes = get_le<uint32_t>(in, 2);
    in = in.subspan(6);
    if (in.size() < name_bytes + value_bytes) {
      return failure(Errc::corrupt, "attributes end too early");
    }
    attributes.emplace(as_text(in.first(name_bytes)), as_text(in.subspan(name_bytes, value_bytes)));
    in = in.subspan(name_bytes + value_bytes);
  }
  return attributes;
}

result<Attributes> read_attributes(File& file, const std::optional<Footer>& footer) {
  if (!footer) return failure(Errc::corrupt, "no good footer");
  if (footer->attributes_bytes == 0) return Attributes();
  if (footer->attributes_bytes > kAttributesBytesMax) {
    return failure(Errc::corrupt, "attributes too long");
  }
  Bytes bytes(footer->attributes_bytes);
  TRY(auto n, file.pread(footer->data_bytes, bytes));
  if (n != bytes.size() || crc32c(bytes) != footer->attributes_crc) {
    return failure(Errc::corrupt, "attributes fail their checksum");
  }
  return parse_attributes(bytes);
}

}  // namespace

result<Bytes> encode_object_trailer(uint64_t data_bytes, const Attributes& attributes) {
  Bytes out;
  for (const auto& [name, value] : attributes) {
    if (name.size() > UINT16_MAX || value.size() > kAttributesBytesMax) {
      return failure(Errc::invalid, "attribute " + name.substr(0, 100) + " is too long");
    }
    put_le(out, static_cast<uint16_t>(name.size()));
    put_le(out, static_cast<uint32_t>(value.size()));
    out.insert(out.end(), name.begin(), name.end());
    out.insert(out.end(), value.begin(), value.end());
    if (out.size() > kAttributesBytesMax) {
      return failure(Errc::invalid, "more than 64 KiB of attributes");
    }
  }
  const Footer footer{static_cast<uint32_t>(out.size()), data_bytes, crc32c(out)};
  put_footer_record(out, footer);
  put_footer_record(out, footer);
  return out;
}

namespace {

// `take(i, length)` gives the memory for that many bytes of range i; `read(i, bytes)` is told how
// many came.
template <class Take, class Done>
result<uint64_t> read_ranges(File& file, const std::vector<ByteRange>& ranges, bool want_attributes,
                             Attributes& attributes, Take take, Done done) {
  TRY(const auto file_bytes, file.size());
  TRY(const auto footer, read_footer(file, file_bytes));
  const uint64_t object_size =
      footer ? footer->data_bytes : file_bytes - std::min<uint64_t>(file_bytes, kFooterBytes);
  uint64_t budget = kObjectBytesMax;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const uint64_t offset = std::min(ranges[i].offset, object_size);
    const uint64_t length = std::min(ranges[i].length, object_size - offset);
    if (length > budget) return failure(Errc::corrupt, "reading more than 64 MiB at once");
    budget -= length;
    const MutableByteView out = take(i, length);
    if (length == 0) {
      done(i, size_t{0});
      continue;
    }
    TRY(const size_t n, file.pread(offset, out));
    done(i, n);
  }
  if (want_attributes) {
    TRY(attributes, read_attributes(file, footer));
  }
  return object_size;
}

}  // namespace

result<ReadReply> read_object_file(File& file, const std::vector<ByteRange>& ranges,
                                   bool want_attributes) {
  ReadReply reply;
  reply.ranges.resize(ranges.size());
  TRY(reply.object_size, read_ranges(
                             file, ranges, want_attributes, reply.attributes,
                             [&](size_t i, uint64_t length) {
                               reply.ranges[i].resize(length);
                               return MutableByteView(reply.ranges[i]);
                             },
                             [&](size_t i, size_t bytes) { reply.ranges[i].resize(bytes); }));
  return reply;
}

result<ReadIntoReply> read_object_file_into(File& file, const std::vector<ByteRange>& ranges,
                                            const std::vector<MutableByteView>& spaces,
                                            bool want_attributes) {
  ReadIntoReply reply;
  reply.sizes.resize(ranges.size());
  TRY(reply.object_size, read_ranges(
                             file, ranges, want_attributes, reply.attributes,
                             [&](size_t i, uint64_t length) { return spaces[i].first(length); },
                             [&](size_t i, size_t bytes) { reply.sizes[i] = bytes; }));
  return reply;
}

}  // namespace datacloud
