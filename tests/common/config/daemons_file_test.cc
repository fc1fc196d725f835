// The file of where the daemons were last reached.
#include "common/config/daemons_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace datacloud {
namespace {

using testing::HasSubstr;

DaemonsFile example() {
  DaemonsFile file;
  file.cloud_uuid = "00000000-0000-4000-8000-000000000001";
  file.leader_key = SecretKey(Bytes(32, 9));
  file.epoch = 12;
  file.daemons = {{"oslo", {"tls://oslo:7411", "unix:/run/a.sock"}, true}, {"kyoto", {}, false}};
  return file;
}

TEST(DaemonsFile, IsBesideTheConfiguration) {
  EXPECT_EQ(daemons_file_of("/etc/datacloud/demo.toml"), "/etc/datacloud/demo.daemons");
}

TEST(DaemonsFile, IsReadAsItWasWritten) {
  const TemporaryDirectory directory;
  const auto path = std::filesystem::path(directory.path()) / "demo.daemons";
  for (int i = 0; i < 2; ++i) {
    const auto written = write_daemons_file(path, example());
    ASSERT_TRUE(written) << written.error().message();
    const auto read = read_daemons_file(path);
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read.value().cloud_uuid, example().cloud_uuid);
    EXPECT_EQ(to_bytes(read.value().leader_key.view()), Bytes(32, 9));
    EXPECT_EQ(read.value().epoch, 12u);
    EXPECT_EQ(read.value().daemons, example().daemons);
  }
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST(DaemonsFile, ThatIsAbsentOrDamagedIsTold) {
  const TemporaryDirectory directory;
  const auto path = std::filesystem::path(directory.path()) / "demo.daemons";
  EXPECT_TRUE(read_daemons_file(path).error().is(Errc::not_found));
  const std::string good_key(64, '1');
  for (const std::string& text :
       {std::string("leader_key = 'x'"), std::string("["), std::string(),
        "leader_key = '" + good_key + "'\nother = 1", "leader_key = '" + good_key + "'\ndaemon = 1",
        "leader_key = '" + good_key + "'\nepoch = -1", std::string(300 << 10, '#')}) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0600);
    EXPECT_FALSE(read_daemons_file(path)) << text.substr(0, 80);
  }
  std::ofstream(path) << "leader_key = '" + good_key + "'\n[[daemon]]\nname = 7\naddresses = 'x'\n";
  EXPECT_TRUE(read_daemons_file(path)) << "what is not understood is left out";
  ::chmod(path.c_str(), 0644);
  EXPECT_THAT(read_daemons_file(path).error().text(), HasSubstr(path.string()))
      << "a key that others can read is none";
  EXPECT_FALSE(write_daemons_file("/nonexistent/demo.daemons", example()));
}

TEST(DaemonsFile, NamesThatCannotBeQuotedAreLeftOut) {
  const TemporaryDirectory directory;
  const auto path = std::filesystem::path(directory.path()) / "demo.daemons";
  DaemonsFile file = example();
  file.daemons[0].addresses.push_back("tls://a\"\n:1");
  file.daemons.push_back({"a\"b", {"tls://b:1"}, false});
  ASSERT_TRUE(write_daemons_file(path, file));
  const auto read = read_daemons_file(path);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read.value().daemons, example().daemons);
}

}  // namespace
}  // namespace datacloud
