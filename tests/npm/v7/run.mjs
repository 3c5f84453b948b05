import * as ai from "ai";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import { serve } from "../client.mjs";

serve(ai, WorkflowChatTransport);
