// Secrets stay out of a support bundle, whatever spelling they have; tar can read what we write.
#include "tools/support_bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cstdio>
#include <fstream>

#include "common/base/hex.h"
#include "tests/support/temporary_directory.h"
#include "tools/tar_archive.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(SupportBundle, SecretLookingValuesAreReplaced) {
  const auto text = without_secrets(
      "[cloud]\nname = \"demo\"\nadmin_password = \"hunter2\"\nkeyring=\"AQBx==\"\n# end");
  EXPECT_THAT(text, HasSubstr("name = \"demo\""));
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, Not(HasSubstr("AQBx")));
  EXPECT_THAT(text, HasSubstr("admin_password = \"(left out)\""));
}

TEST(SupportBundle, ATextThatHoldsAKeyLosesItsContents) {
  std::string key;
  for (int i = 0; i < 32; i++) key += static_cast<char>(i * 7 + 129);
  const auto* bytes = reinterpret_cast<const uint8_t*>(key.data());
  std::string hex = to_hex({bytes, key.size()});
  std::string upper = hex;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  unsigned char base64[64] = {};
  EVP_EncodeBlock(base64, bytes, 32);
  std::vector<BundleText> texts = {{"clean", "nothing here"},
                                   {"raw", "x" + key + "y"},
                                   {"hex", "key " + hex + "\n"},
                                   {"upper", upper},
                                   {"base64", "k=" + std::string(reinterpret_cast<char*>(base64))}};
  EXPECT_THAT(remove_keys(texts, {key}), ElementsAre("raw", "hex", "upper", "base64"));
  EXPECT_EQ(texts[0].contents, "nothing here");
  for (size_t i = 1; i < texts.size(); i++) EXPECT_THAT(texts[i].contents, HasSubstr("left out"));
}

TEST(SupportBundle, TarReadsTheArchive) {
  TemporaryDirectory directory;
  TarArchive archive;
  archive.add("a/empty", "", 1);
  archive.add("a/block", std::string(512, 'b'), 2);
  archive.add("a/odd", "three\n", 3);
  const auto path = directory.path() / "x.tar";
  std::ofstream(path, std::ios::binary) << std::move(archive).finish();
  const std::string command = "cd " + directory.path().string() +
                              " && tar -xf x.tar && wc -c < a/block && cat a/odd && "
                              "test ! -s a/empty && stat -c %a a/odd";
  FILE* pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char text[256] = {};
  const size_t size = std::fread(text, 1, sizeof text - 1, pipe);
  EXPECT_EQ(::pclose(pipe), 0);
  EXPECT_EQ(std::string(text, size), "512\nthree\n600\n");
}

}  // namespace
}  // namespace datacloud
