// The main program of a folder's tests, which are one program: linking and the templates of gtest
// take longer than the tests of one file.
//
//   FOLDER_tests [--of=NAME] [--among=NAME,NAME,...] [gtest's arguments]
//
// --of: only the tests of NAME.cc. Tests of a header that several folders instantiate, of
// store_conformance.h say, are those of the folder's X_conformance_test.
// --among: the names that ctest knows; a test of another file would never run, and fails this one.
#include <fnmatch.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    if (end > at) out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

// As gtest's own: patterns with colons between them, those behind a minus sign leave out.
bool passes(const std::string& name, const std::string& filter) {
  const size_t minus = filter.find('-');
  const auto any = [&](const std::string& patterns) {
    const auto all = split(patterns, ':');
    return std::any_of(all.begin(), all.end(), [&](const std::string& pattern) {
      return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
    });
  };
  const std::string wanted = filter.substr(0, minus);
  if (!wanted.empty() && !any(wanted)) return false;
  return minus == std::string::npos || !any(filter.substr(minus + 1));
}

// Whether the ctest entry of this name runs the test.
bool runs(const std::string& entry, const testing::TestInfo& test) {
  const std::filesystem::path file = test.file();
  const std::string stem = file.stem().string();
  if (file.extension() != ".h") return entry == stem;
  return entry.ends_with(stem.substr(stem.find_last_of('_') + 1) + "_test");
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  std::string of;
  std::vector<std::string> among;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--of=")) {
      of = word.substr(5);
    } else if (word.starts_with("--among=")) {
      among = split(word.substr(8), ',');
    } else {
      std::fprintf(stderr, "unknown argument %s\n", argv[i]);
      return 2;
    }
  }
  if (of.empty()) return RUN_ALL_TESTS();
  const std::string filter = testing::GTEST_FLAG(filter);
  std::string chosen;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const auto& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const auto& test = *suite.GetTestInfo(t);
      const std::string name = std::string(suite.name()) + "." + test.name();
      const auto entries = std::count_if(
          among.begin(), among.end(), [&](const std::string& entry) { return runs(entry, test); });
      if (!among.empty() && entries != 1) {
        std::fprintf(stderr, "%ld entries of ctest run %s of %s, not one\n",
                     static_cast<long>(entries), name.c_str(), test.file());
        return 1;
      }
      if (runs(of, test) && passes(name, filter)) chosen += name + ":";
    }
  }
  if (chosen.empty()) {
    std::fprintf(stderr, "%s has no tests%s\n", of.c_str(),
                 filter == "*" ? "" : (" that match " + filter).c_str());
    return 1;
  }
  testing::GTEST_FLAG(filter) = chosen;
  return RUN_ALL_TESTS();
}
