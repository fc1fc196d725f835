// Key derivation and key files.
#include "common/crypto/keys.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "common/base/hex.h"

namespace datacloud {
namespace {

const std::string kUuid = "00112233-4455-6677-8899-aabbccddeeff";

Bytes bytes_of(const std::string& hex) {
  Bytes out(hex.size() / 2);
  EXPECT_TRUE(from_hex(hex, out));
  return out;
}

const std::string kKeyHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
SecretKey counting_key() { return SecretKey{ByteView(bytes_of(kKeyHex))}; }

// The worked bytes of docs/format.md.
const std::string kDataFile =
    "datacloud-key 1\n"
    "kind data\n"
    "cloud 00112233-4455-6677-8899-aabbccddeeff\n"
    "key 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
    "check 9cbc31c76ce7b86d\n";
const std::string kServiceFile =
    "datacloud-key 1\n"
    "kind service\n"
    "cloud 00112233-4455-6677-8899-aabbccddeeff\n"
    "key 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
    "check e3357073b8298b94\n";

TEST(Hkdf, EqualsRfc5869TestCase3) {
  // Test case 3: SHA-256 with neither salt nor info.
  EXPECT_EQ(to_hex(hkdf_sha256(Bytes(22, 0x0b), "", 42)),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(Derivation, IsPinned) {
  const SecretKey realm = derive_realm_key(counting_key(), kUuid, 0);
  EXPECT_EQ(to_hex(realm.view()),
            "c40493d46913db66f46626b3d261458cb5cbef483efe260c126624bb3432b5ac");
  EXPECT_EQ(to_hex(derive_inode_key(realm, 5, 3).view()),
            "b530ca14806e1d0bacdf8fd9398193b794a1cf04f092a562cd3ad378ed4a0729");
  EXPECT_EQ(to_hex(derive_name_key(counting_key(), kUuid)), "deb9a16fe83690588f97a5fa94ce8772");
}

TEST(Derivation, EveryInputMatters) {
  const SecretKey key = counting_key();
  std::vector<std::string> keys;
  for (const auto& realm :
       {derive_realm_key(key, kUuid, 0), derive_realm_key(key, kUuid, 1),
        derive_realm_key(key, "other", 0), derive_realm_key(SecretKey::random(), kUuid, 0)})
    for (const auto& inode : {derive_inode_key(realm, 1, 0), derive_inode_key(realm, 2, 0),
                              derive_inode_key(realm, 1, 1), derive_inode_key(realm, 11, 0)})
      keys.push_back(to_hex(inode.view()));
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

TEST(SecretKey, RandomKeysDiffer) {
  EXPECT_NE(to_hex(SecretKey::random().view()), to_hex(SecretKey::random().view()));
}

class KeyFiles : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/datacloud-keys-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    directory = pattern;
    path = directory / "demo.key";
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  void write(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path, std::ios::binary) << text;
    ::chmod(path.c_str(), mode);
  }
  std::string contents() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // The error of reading the file; empty when it reads.
  std::string read_error(KeyFileKind kind = KeyFileKind::data) const {
    const auto file = read_key_file(path, kind);
    if (file) return {};
    EXPECT_NE(file.error().text().find(path.string()), std::string::npos) << file.error().text();
    return file.error().text();
  }

  std::filesystem::path directory, path;
};

TEST_F(KeyFiles, AreWrittenAsDocumentedAndComeBack) {
  ASSERT_TRUE(write_key_file(path, {KeyFileKind::data, kUuid, counting_key()}));
  EXPECT_EQ(contents(), kDataFile);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_nlink, 1u);
  const auto file = read_key_file(path, KeyFileKind::data);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file.value().cloud_uuid, kUuid);
  EXPECT_EQ(to_hex(file.value().key.view()), kKeyHex);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1)
      << "no temporary file stays";
}

TEST_F(KeyFiles, AreNeverOverwritten) {
  write("precious");
  const auto written = write_key_file(path, {KeyFileKind::data, kUuid, SecretKey::random()});
  ASSERT_FALSE(written);
  EXPECT_TRUE(written.error().is(Errc::exists));
  EXPECT_EQ(contents(), "precious");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
}

TEST_F(KeyFiles, IntoAMissingDirectoryNameThePath) {
  const auto written =
      write_key_file(directory / "absent" / "k", {KeyFileKind::data, kUuid, counting_key()});
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("absent/k"), std::string::npos);
}

TEST_F(KeyFiles, OpenToOthersAreRefusedWithTheRemedy) {
  for (mode_t mode : {0640, 0604, 0620, 0601, 0660}) {
    write(kDataFile, mode);
    EXPECT_NE(read_error().find("chmod 600"), std::string::npos);
  }
  write(kDataFile, 0400);
  EXPECT_EQ(read_error(), "");
}

TEST_F(KeyFiles, AbsentOrForeignFilesAreExplained) {
  EXPECT_NE(read_error().find("No such file"), std::string::npos);
  write("hello\n");
  EXPECT_NE(read_error().find("not a Data Cloud key file"), std::string::npos);
  write("");
  EXPECT_NE(read_error(), "");
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_NE(read_error().find("not a regular file"), std::string::npos);
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_NE(read_error().find("not a regular file"), std::string::npos) << "and does not hang";
}

TEST_F(KeyFiles, OfTheOtherKindAreRefused) {
  write(kServiceFile);
  EXPECT_EQ(read_error(KeyFileKind::service), "");
  EXPECT_NE(read_error(KeyFileKind::data).find("holds a service key where the data key belongs"),
            std::string::npos);
}

TEST_F(KeyFiles, OfALaterFormatAskForANewerVersion) {
  write("datacloud-key 2\nsomething\n");
  EXPECT_NE(read_error().find("version"), std::string::npos);
}

TEST(KeyFileText, EverySingleByteOfDamageIsFound) {
  for (size_t i = 0; i < kDataFile.size(); ++i)
    for (int mask : {0x01, 0x20, 0x80}) {
      std::string damaged = kDataFile;
      damaged[i] = static_cast<char>(damaged[i] ^ mask);
      EXPECT_FALSE(parse_key_file(damaged, KeyFileKind::data, "k")) << i;
    }
  for (size_t length = 0; length < kDataFile.size(); ++length)
    EXPECT_FALSE(parse_key_file(kDataFile.substr(0, length), KeyFileKind::data, "k"));
  EXPECT_FALSE(parse_key_file(kDataFile + "\n", KeyFileKind::data, "k"));
  EXPECT_FALSE(parse_key_file(kDataFile + kDataFile, KeyFileKind::data, "k"));
}

TEST(KeyFileText, IsPinned) {
  EXPECT_EQ(encode_key_file({KeyFileKind::data, kUuid, counting_key()}), kDataFile);
  EXPECT_EQ(encode_key_file({KeyFileKind::service, kUuid, counting_key()}), kServiceFile);
}

}  // namespace
}  // namespace datacloud
