// The table of mount(8)'s options.
#include "fs/fuse/mount_flags.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>

namespace datacloud {
namespace {

constexpr unsigned long kAtimes = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr unsigned long kOwnerImplies = MS_NOSUID | MS_NODEV;
constexpr unsigned long kUserImplies = kOwnerImplies | MS_NOEXEC;

struct Option {
  std::string_view name;
  unsigned long set, clear;
};

// A remount without any flag of the access times keeps those it has (the kernel's rule), so the
// ways back to the default set MS_RELATIME, which is the default.
constexpr std::array kOptions = {
    Option{"ro", MS_RDONLY, 0},
    Option{"rw", 0, MS_RDONLY},
    Option{"nosuid", MS_NOSUID, 0},
    Option{"suid", 0, MS_NOSUID},
    Option{"nodev", MS_NODEV, 0},
    Option{"dev", 0, MS_NODEV},
    Option{"noexec", MS_NOEXEC, 0},
    Option{"exec", 0, MS_NOEXEC},
    Option{"sync", MS_SYNCHRONOUS, 0},
    Option{"async", 0, MS_SYNCHRONOUS},
    Option{"dirsync", MS_DIRSYNC, 0},
    Option{"nosymfollow", MS_NOSYMFOLLOW, 0},
    Option{"symfollow", 0, MS_NOSYMFOLLOW},
    Option{"silent", MS_SILENT, 0},
    Option{"loud", 0, MS_SILENT},
    Option{"noatime", MS_NOATIME, kAtimes},
    Option{"atime", MS_RELATIME, kAtimes},
    Option{"relatime", MS_RELATIME, kAtimes},
    Option{"norelatime", 0, MS_RELATIME},
    Option{"strictatime", MS_STRICTATIME, kAtimes},
    Option{"nostrictatime", MS_RELATIME, kAtimes},
    Option{"nodiratime", MS_NODIRATIME, 0},
    Option{"diratime", 0, MS_NODIRATIME},
    Option{"lazytime", MS_LAZYTIME, 0},
    Option{"nolazytime", 0, MS_LAZYTIME},
    Option{"user", kUserImplies, 0},
    Option{"users", kUserImplies, 0},
    Option{"owner", kOwnerImplies, 0},
    Option{"group", kOwnerImplies, 0},
    // Read by mount(8), systemd or nobody before or instead of us; or what is so anyway.
    Option{"defaults", 0, 0},
    Option{"auto", 0, 0},
    Option{"noauto", 0, 0},
    Option{"nouser", 0, 0},
    Option{"nousers", 0, 0},
    Option{"noowner", 0, 0},
    Option{"nogroup", 0, 0},
    Option{"acl", 0, 0},
    Option{"_netdev", 0, 0},
    Option{"nofail", 0, 0},
    Option{"nomand", 0, 0},
    Option{"noiversion", 0, 0},
};

struct Refusal {
  std::string_view name, why;
};
constexpr std::array kRefusals = {
    Refusal{"mand", "mandatory locks do not exist"},
    Refusal{"iversion", "there are no inode versions"},
    Refusal{"noacl", "ACLs are always kept, in clouds with the feature posix-acl"},
    Refusal{"context", "SELinux labels are not supported"},
    Refusal{"fscontext", "SELinux labels are not supported"},
    Refusal{"defcontext", "SELinux labels are not supported"},
    Refusal{"rootcontext", "SELinux labels are not supported"},
    Refusal{"bind", "give mount(8) a directory, without -t datacloud"},
    Refusal{"rbind", "give mount(8) a directory, without -t datacloud"},
    Refusal{"move", "give mount(8) a mount point, without -t datacloud"},
    Refusal{"loop", "the source is a configuration file, not an image"},
};

struct LibfuseFlag {
  std::string_view name;
  unsigned long flag;
};
constexpr std::array kLibfuse = {
    LibfuseFlag{"ro", MS_RDONLY},        LibfuseFlag{"nosuid", MS_NOSUID},
    LibfuseFlag{"nodev", MS_NODEV},      LibfuseFlag{"noexec", MS_NOEXEC},
    LibfuseFlag{"sync", MS_SYNCHRONOUS}, LibfuseFlag{"dirsync", MS_DIRSYNC},
    LibfuseFlag{"noatime", MS_NOATIME},
};

}  // namespace

bool MountFlags::apply(std::string_view option) {
  if (option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment="))
    return true;
  if (option.starts_with("user=")) option = "user";  // mount(8) adds the name
  const auto known = std::find_if(kOptions.begin(), kOptions.end(),
                                  [&](const Option& o) { return o.name == option; });
  if (known == kOptions.end()) return false;
  flags_ = (flags_ & ~known->clear) | known->set;
  return true;
}

std::string_view MountFlags::refusal(std::string_view option) {
  const std::string_view name = option.substr(0, option.find('='));
  for (const auto& refusal : kRefusals)
    if (refusal.name == name) return refusal.why;
  return {};
}

bool MountFlags::read_only() const { return flags_ & MS_RDONLY; }
bool MountFlags::synchronous() const { return flags_ & MS_SYNCHRONOUS; }
bool MountFlags::synchronous_directories() const { return flags_ & MS_DIRSYNC; }

std::vector<std::string> MountFlags::libfuse_options(bool privileged) const {
  std::vector<std::string> words;
  for (const auto& known : kLibfuse)
    if (flags_ & known.flag) words.emplace_back(known.name);
  // libfuse's own defaults are nosuid and nodev.
  if (privileged && !(flags_ & MS_NOSUID)) words.emplace_back("suid");
  if (privileged && !(flags_ & MS_NODEV)) words.emplace_back("dev");
  return words;
}

bool MountFlags::beyond_libfuse() const {
  unsigned long known = MS_RELATIME | MS_SILENT;  // the default; of the moment
  for (const auto& flag : kLibfuse) known |= flag.flag;
  return flags_ & ~known;
}

}  // namespace datacloud
