// The site marker as text: five lines and a checksum, readable by an administrator.
//
//   datacloud-site 1
//   cloud_uuid=...
//   cloud_name=...
//   site_name=...
//   site_id=3
//   crc32c=8 hex digits over everything before this line
//
// In values, control characters and '%' are written as %XX. Decoding takes exactly what encode()
// writes: anything else is corrupt, so a damaged marker makes its site away and nothing more.
#include <charconv>

#include "common/base/crc32c.h"
#include "common/store/object_store.h"

namespace datacloud {
namespace {

constexpr size_t kMarkerBytesMax = 4096;
constexpr std::string_view kTitle = "datacloud-site ";

std::string escape(const std::string& value) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (unsigned char c : value) {
    if (c < 0x20 || c == 0x7f || c == '%') {
      out += {'%', digits[c >> 4], digits[c & 15]};
    } else {
      out += static_cast<char>(c);
    }
  }
  return out;
}

result<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    if (i + 2 >= text.size() ||
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr !=
            text.data() + i + 3) {
      return failure(Errc::corrupt, "site marker: malformed escape");
    }
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

template <class T>
result<T> number(std::string_view text, int base = 10) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    return failure(Errc::corrupt, "site marker: malformed number");
  }
  return value;
}

// Cuts "PREFIX...\n" off the front of `text` and returns the middle.
result<std::string_view> take_line(std::string_view& text, std::string_view prefix) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos || text.substr(0, prefix.size()) != prefix ||
      end < prefix.size()) {
    return failure(Errc::corrupt, "site marker: no line \"" + std::string(prefix) + "\"");
  }
  const auto value = text.substr(prefix.size(), end - prefix.size());
  text.remove_prefix(end + 1);
  return value;
}

std::string hex8(uint32_t value) {
  char out[9];
  std::snprintf(out, sizeof out, "%08x", value);
  return out;
}

}  // namespace

std::string SiteMarker::encode() const {
  std::string text = std::string(kTitle) + std::to_string(format_version) +
                     "\ncloud_uuid=" + escape(cloud_uuid) + "\ncloud_name=" + escape(cloud_name) +
                     "\nsite_name=" + escape(site_name) + "\nsite_id=" + std::to_string(site_id) +
                     "\n";
  return text + "crc32c=" + hex8(crc32c(as_bytes(text))) + "\n";
}

result<SiteMarker> SiteMarker::decode(std::string_view whole) {
  if (whole.size() > kMarkerBytesMax) return failure(Errc::corrupt, "site marker: too long");
  SiteMarker marker;
  std::string_view text = whole;
  TRY(auto version, take_line(text, kTitle));
  TRY(marker.format_version, number<uint32_t>(version));
  if (marker.format_version != 1) {
    return failure(Errc::unsupported, "site marker: format " + std::string(version) +
                                          " was made by a newer version of datacloud; upgrade");
  }
  TRY(auto uuid, take_line(text, "cloud_uuid="));
  TRY(marker.cloud_uuid, unescape(uuid));
  TRY(auto cloud_name, take_line(text, "cloud_name="));
  TRY(marker.cloud_name, unescape(cloud_name));
  TRY(auto site_name, take_line(text, "site_name="));
  TRY(marker.site_name, unescape(site_name));
  TRY(auto site_id, take_line(text, "site_id="));
  TRY(marker.site_id, number<uint32_t>(site_id));
  const size_t summed = whole.size() - text.size();
  TRY(auto sum, take_line(text, "crc32c="));
  if (!text.empty() || sum != hex8(crc32c(as_bytes(whole.substr(0, summed))))) {
    return failure(Errc::corrupt, "site marker: checksum differs");
  }
  return marker;
}

}  // namespace datacloud
