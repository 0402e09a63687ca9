"""Running a net and measuring it: profile() and Profiler."""
