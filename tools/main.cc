// The `datacloud` command: parses the command line and runs one command. The only file that
// includes CLI11, which is slow to compile.
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "common/log.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"

namespace datacloud {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong command line.\n"
    "The configuration file is also taken from the environment variable DATACLOUD_CONFIG.";

int run(int argc, char** argv) {
  CLI::App app{"Data Cloud: one file system over several sites."};
  CommandContext context{"/etc/datacloud/datacloud.toml"};
  std::string config = context.config;
  app.add_option("--config", config, "Configuration file")
      ->envname("DATACLOUD_CONFIG")
      ->capture_default_str();
  app.add_flag("--json", context.json, "Print JSON");
  app.set_version_flag("--version", std::string("datacloud ") + DATACLOUD_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // --config and --json before or after the command

  int code = kExitOk;
  auto command = [&](const char* name, const char* help, auto action) {
    auto* sub = app.add_subcommand(name, help);
    sub->callback([&, action] {
      context.config = config;
      code = action();
    });
    return sub;
  };
  command("create", "Format a new cloud on the configured sites",
          [&] { return run_create(context); });
  command("status", "Health, sites, capacity and mounts", [&] { return run_status(context); });
  std::string path;
  command("locate", "Where the shards of a file are", [&] { return run_locate(context, path); })
      ->add_option("PATH", path, "A file below a mount, or a path inside the cloud")
      ->required();
  bool reset = false;
  command("traffic", "Bytes moved per site and purpose since the daemon started", [&] {
    return run_traffic(context, reset);
  })->add_flag("--reset", reset, "Start counting anew");
  bool wait = false;
  command("gc", "Collect objects that nothing names any more", [&] {
    return run_gc(context, wait);
  })->add_flag("--wait", wait, "Return when nothing is left");

  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    if (app.get_subcommands().empty() && !app.remaining().empty()) {
      std::cerr << "unknown command: " << app.remaining().front() << "\n";
    }
    app.exit(error);
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return code;
}

}  // namespace
}  // namespace datacloud

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);  // failures are told once, by the command
  return datacloud::run(argc, argv);
}
