// What a process tells systemd about itself: sd_notify(3)'s datagrams, without its library.
//
// Silent when nobody asked (no NOTIFY_SOCKET), and never a reason to fail: a lost message costs at
// most a restart by the watchdog. One object per process; methods from any thread.
#pragma once

#include <string>

#include "common/base/clock.h"

namespace datacloud {

class ServiceNotifier {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them, so that no child speaks
  // for us. Call before other threads exist.
  static ServiceNotifier from_environment();
  ServiceNotifier(const ServiceNotifier&) = delete;
  ServiceNotifier& operator=(const ServiceNotifier&) = delete;
  ~ServiceNotifier();

  // How often alive() is to be called: half of what systemd allows. Zero: there is no watchdog.
  Duration watchdog_interval() const { return watchdog_interval_; }

  void ready(const std::string& status) const;
  void stopping() const;
  void alive() const;

 private:
  ServiceNotifier(int fd, Duration interval) : fd_(fd), watchdog_interval_(interval) {}
  void send(const std::string& text) const;

  int fd_;  // connected; -1: nobody listens
  Duration watchdog_interval_;
};

}  // namespace datacloud
