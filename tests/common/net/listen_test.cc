#include "common/net/listen.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/tls_rig.h"

namespace datacloud {
namespace {

TEST(Listen, OneSocketForEachAddress) {
  const TlsAddress address{"127.0.0.1", free_port()};
  const auto fds = listen_tcp(address);
  ASSERT_TRUE(fds) << fds.error().message();
  EXPECT_EQ(fds.value().size(), 1u);
  const auto again = listen_tcp(address);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().errno_value(), EADDRINUSE);
  EXPECT_NE(again.error().text().find(to_text(address)), std::string::npos);
  for (const int fd : fds.value()) ::close(fd);
  const auto anew = listen_tcp(address);
  ASSERT_TRUE(anew) << "the address is free again";
  for (const int fd : anew.value()) ::close(fd);
}

TEST(Listen, NamesThatDoNotResolveAreTold) {
  const auto none = listen_tcp({"nowhere.invalid", 1});
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is(Errc::invalid));
  EXPECT_NE(none.error().text().find("nowhere.invalid"), std::string::npos);
}

}  // namespace
}  // namespace datacloud
