// Parsing /proc/self/mountinfo.
#include "common/base/mount_table.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace datacloud {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes space, tab, newline and backslash as three octal digits.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
                        is_octal(text[i + 2]) && is_octal(text[i + 3]);
    if (!escape) {
      out += text[i];
      continue;
    }
    out +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
    i += 3;
  }
  return out;
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == word) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

bool MountTableEntry::has_option(std::string_view word) const {
  return has_word(options, word) || has_word(super_options, word);
}

// "36 35 98:0 /root /point options optional... - type source superoptions"
std::vector<MountTableEntry> parse_mount_table(std::string_view text) {
  std::vector<MountTableEntry> entries;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    MountTableEntry entry;
    std::string id, parent, root, point, source, word;
    words >> id >> parent >> entry.device >> root >> point >> entry.options;
    while (words >> word && word != "-") {
    }
    if (!(words >> entry.type >> source)) continue;
    words >> entry.super_options;
    entry.root = unescaped(root);
    entry.point = unescaped(point);
    entry.source = unescaped(source);
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::vector<MountTableEntry> read_mount_table() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_mount_table(text.str());
}

}  // namespace datacloud
