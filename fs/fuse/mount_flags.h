// The options that mount(8) has for every file system, as the flags of mount(2).
//
// Where two options exclude each other the later one holds, as in mount(8).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace datacloud {

class MountFlags {
 public:
  // Takes "ro", "nosuid", "user" (which means noexec, nosuid and nodev), "_netdev", ... False when
  // mount(8) has no such option, or when it cannot be kept (refusal() says why).
  bool apply(std::string_view option);
  // Why an option of mount(8) is not taken; empty for every other word.
  static std::string_view refusal(std::string_view option);

  bool read_only() const;
  bool synchronous() const;              // sync
  bool synchronous_directories() const;  // dirsync
  // For MS_REMOUNT, which takes all of them.
  unsigned long value() const { return flags_; }
  // What libfuse can ask for when it mounts: "ro", "nosuid", ...; `dev` and `suid` only with
  // `privileged`, because fusermount3 refuses them.
  std::vector<std::string> libfuse_options(bool privileged) const;
  // Whether flags are set that libfuse does not know: they need a remount after mounting.
  bool beyond_libfuse() const;

 private:
  unsigned long flags_ = 0;
};

}  // namespace datacloud
