"""The generator that writes through another server, any that speaks OpenAI's chat completions: vLLM, llama.cpp, OpenAI and others."""
